"""The report's figures as PNG files: maps (scenarios by metrics), sizes, silhouettes."""

from matplotlib.figure import Figure as Canvas

from fedcmp.report.canvas import frame, png, short
from fedcmp.report.methods import write_number
from fedcmp.report.palette import CLIENT_COLOURS
from fedcmp.report.scenario.maps import SIDE, label_places, label_size, placed
from fedcmp.report.scenario.records import METRICS, NOBODY, Shown

MAPS, SIZES, SILHOUETTES = "maps.png", "sizes.png", "silhouettes.png"
PNG_NAMES = (MAPS, SIZES, SILHOUETTES)
_GREY = "#b9c0c7"
_POINTS = 130.0  # of 1/72 inch: less than a map is wide, so that labels keep apart
_DARK = 0.8  # share of the highest value from which a cell's number is written in white


def scenario_pngs(shown: Shown) -> dict[str, bytes]:
    """Draw every figure for which there are figures: file name (one of PNG_NAMES) -> content, the same bytes twice."""
    drawn = {MAPS: _maps(shown), SIZES: _sizes(shown), SILHOUETTES: _silhouettes(shown)}
    return {name: content for name, content in drawn.items() if content is not None}


def _colour(owner: int) -> str:
    return _GREY if owner == NOBODY else CLIENT_COLOURS[owner % len(CLIENT_COLOURS)]


def _maps(shown: Shown) -> bytes | None:
    known = [(metric, layout) for metric in METRICS if (layout := shown.maps[metric]) is not None]
    if not known:
        return None
    rows, columns = len(shown.scenarios), len(known)
    canvas = Canvas(figsize=(2.7 * columns, 2.9 * rows), layout="constrained")
    for row, scenario in enumerate(shown.scenarios):
        for column, (metric, layout) in enumerate(known):
            axes = canvas.add_subplot(rows, columns, row * columns + column + 1)
            points, height = placed(layout, scenario.owners)
            for owner in sorted({owner for _, _, owner in points}):
                xs, ys = zip(*((x, y) for x, y, holder in points if holder == owner), strict=True)
                axes.scatter(xs, ys, s=2.5, color=_colour(owner), linewidths=0)
            size = label_size(len(scenario.clients))
            for client, (x, y) in label_places(points, size).items() if size else ():
                box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
                font = _POINTS * size / SIDE
                axes.text(x, y, str(client), fontsize=font, weight="bold", ha="center", va="center", bbox=box)
            axes.set_xlim(0, SIDE)
            axes.set_ylim((height + SIDE) / 2, (height - SIDE) / 2)
            axes.set_aspect("equal")
            axes.set_axis_off()
            value = scenario.silhouette[metric]
            told = "" if value is None else f", {write_number(value, 3)}"
            frame(axes, f"{short(scenario.name)} by {metric}{told}{' (own)' if metric == scenario.metric else ''}")
    return png(canvas)


def _sizes(shown: Shown) -> bytes:
    canvas = Canvas(figsize=(1.6 + 1.7 * len(shown.scenarios), 3.2), layout="constrained")
    axes = canvas.add_subplot()
    for at, scenario in enumerate(shown.scenarios):
        width = 0.8 / len(scenario.clients)
        for number, client in enumerate(scenario.clients):
            place = at - 0.4 + (number + 0.5) * width
            axes.bar(place, client.pairs, 0.9 * width, color=_colour(number), linewidth=0)
            if len(scenario.clients) <= len(CLIENT_COLOURS):
                axes.annotate(
                    str(number), (place, client.pairs), (0, 2), textcoords="offset points", ha="center", size=7
                )
    names = [short(scenario.name) for scenario in shown.scenarios]
    axes.set_xticks(range(len(names)), labels=names, parse_math=False)
    axes.set_xlim(-0.55, len(names) - 0.45)
    axes.yaxis.set_major_formatter(lambda value, _: write_number(value, 0))
    frame(axes, "Pairs that each client trains on")
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    return png(canvas)


def _silhouettes(shown: Shown) -> bytes | None:
    values = [[one.silhouette[metric] for metric in METRICS] for one in shown.scenarios]
    top = max((value for row in values for value in row if value is not None), default=None)
    if top is None:
        return None
    canvas = Canvas(figsize=(4.6, 1.1 + 0.5 * len(values)), layout="constrained")
    axes = canvas.add_subplot()
    filled = [[max(value or 0.0, 0.0) for value in row] for row in values]
    axes.imshow(filled, cmap="Blues", vmin=0, vmax=max(top, 1e-9) * 1.15, aspect="auto")
    for row, one in enumerate(shown.scenarios):
        best = max((value for value in values[row] if value is not None), default=None)
        for column, metric in enumerate(METRICS):
            value = values[row][column]
            weight = "bold" if value is not None and value == best else "normal"
            colour = "white" if filled[row][column] > _DARK * top else "black"
            text = write_number(value, 3) + (" own" if metric == one.metric else "")
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5, weight=weight, color=colour)
    axes.set_xticks(range(len(METRICS)), labels=[f"by {metric}" for metric in METRICS])
    names = [short(one.name) for one in shown.scenarios]
    axes.set_yticks(range(len(names)), labels=names, parse_math=False)
    frame(axes, "Silhouette by scenario and metric")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return png(canvas)
