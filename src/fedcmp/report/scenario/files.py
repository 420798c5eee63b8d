"""The report's figures as PNG files: maps (scenarios by metrics), sizes, silhouettes."""

from fedcmp.report.charts.clouds import MOST_LABELS
from fedcmp.report.charts.sheet import CHARACTER, GRID, GROUND, INK, Chart, Sheet, charts_png, light, short
from fedcmp.report.methods import write_number
from fedcmp.report.palette import CLIENT_COLOURS, client_colour
from fedcmp.report.scenario.maps import cloud
from fedcmp.report.scenario.records import METRICS, Shown

MAPS, SIZES, SILHOUETTES = "maps.png", "sizes.png", "silhouettes.png"
PNG_NAMES = (MAPS, SIZES, SILHOUETTES)
_MAP, _BARS, _ROW = 230.0, 150.0, 40.0  # pixels: a map's width, of a scenario's bars, a row's height
_DARK = 0.8  # share of the highest value from which a cell's number is written in white


def scenario_pngs(shown: Shown) -> dict[str, bytes]:
    """Draw every figure for which there are figures: file name (one of PNG_NAMES) -> content, the same bytes twice."""
    drawn = {MAPS: _maps(shown), SIZES: _sizes(shown), SILHOUETTES: _silhouettes(shown)}
    return {name: content for name, content in drawn.items() if content is not None}


def _maps(shown: Shown) -> bytes | None:
    charts: list[tuple[str, Chart]] = []
    for scenario in shown.scenarios:
        for metric in METRICS:
            layout = shown.maps[metric]
            if layout is not None:
                value = scenario.silhouette[metric]
                told = "" if value is None else f", {write_number(value, 3)}"
                own = " (own)" if metric == scenario.metric else ""
                title = f"{short(scenario.name)} by {metric}{told}{own}"
                charts.append((title, cloud(scenario, layout, metric)))
    columns = sum(layout is not None for layout in shown.maps.values())
    return charts_png(charts, _MAP, columns) if charts else None


def _sizes(shown: Shown) -> bytes:
    sheet = Sheet(90 + _BARS * len(shown.scenarios), 300)
    sheet.text(12, 284, "Pairs that each client trains on", weight="bold", size=13)
    axes = sheet.axes(70, 30, sheet.width - 82, 235)
    for at, scenario in enumerate(shown.scenarios):
        width = 0.8 / len(scenario.clients)
        for number, client in enumerate(scenario.clients):
            place = at - 0.4 + (number + 0.5) * width
            axes.bar(place, client.pairs, 0.9 * width, color=light(client_colour(number)), linewidth=0)
            if len(scenario.clients) <= min(len(CLIENT_COLOURS), MOST_LABELS):
                axes.annotate(
                    str(number), (place, client.pairs), (0, 2), textcoords="offset points", ha="center", size=10
                )
    names = [short(one.name, int(_BARS / CHARACTER)) for one in shown.scenarios]
    axes.set_xticks(range(len(names)), labels=names, parse_math=False)
    axes.set_xlim(-0.55, len(names) - 0.45)
    axes.yaxis.set_major_formatter(lambda value, _: write_number(value, 0))
    axes.grid(axis="y", color=light(GRID), linewidth=1)
    return sheet.png()


def _silhouettes(shown: Shown) -> bytes | None:
    values = [[one.silhouette[metric] for metric in METRICS] for one in shown.scenarios]
    top = max((value for row in values for value in row if value is not None), default=None)
    if top is None:
        return None
    sheet = Sheet(480, 66 + _ROW * len(values))
    sheet.text(12, sheet.height - 16, "Silhouette by scenario and metric", weight="bold", size=13)
    names = [short(one.name) for one in shown.scenarios]
    left = 24 + CHARACTER * max(map(len, names))
    axes = sheet.axes(left, 28, sheet.width - left - 12, _ROW * len(values))
    filled = [[max(value or 0.0, 0.0) for value in row] for row in values]
    axes.imshow(filled, cmap="Blues", vmin=0, vmax=max(top, 1e-9) * 1.15, aspect="auto")
    for row, one in enumerate(shown.scenarios):
        best = max((value for value in values[row] if value is not None), default=None)
        for column, metric in enumerate(METRICS):
            value = values[row][column]
            weight = "bold" if value is not None and value == best else "normal"
            colour = light(GROUND if filled[row][column] > _DARK * top else INK)
            text = write_number(value, 3) + (" own" if metric == one.metric else "")
            axes.text(column, row, text, ha="center", va="center", fontsize=12, weight=weight, color=colour)
    axes.set_xticks(range(len(METRICS)), labels=[f"by {metric}" for metric in METRICS])
    axes.set_yticks(range(len(names)), labels=names, parse_math=False)
    return sheet.png()
