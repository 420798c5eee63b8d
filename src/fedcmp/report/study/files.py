"""The study's figures as PNG files: trajectories, the distance closed, the maps; one chart per scenario in each.

The suites' trajectories are drawn for the headline scenario only; the page has them all.
"""

from collections.abc import Sequence

from fedcmp.report.charts.lines import LineChart
from fedcmp.report.charts.sheet import Chart, charts_png
from fedcmp.report.methods import CAPTION_LOSS
from fedcmp.report.study.distances import distance_panel
from fedcmp.report.study.maps import map_panels
from fedcmp.report.study.results import Results
from fedcmp.report.study.trajectories import CURVES, trajectory_chart

LOSS, SUITES, DISTANCE, MAPS = "trajectories.png", "trajectories-suites.png", "distance-closed.png", "maps.png"
PNG_NAMES = (LOSS, SUITES, DISTANCE, MAPS)


def study_pngs(results: Results) -> dict[str, bytes]:
    """Draw every figure for which there are figures.

    Returns:
        File name (one of PNG_NAMES) -> content; the same study gives the same bytes.
    """
    headline = [results.headline] if results.headline is not None else []
    losses = [trajectory_chart(results, one, CAPTION_LOSS) for one in results.comparisons]
    others = [trajectory_chart(results, one, metric) for one in headline for metric in CURVES if metric != CAPTION_LOSS]
    distances = [panel for one in results.comparisons if (panel := distance_panel(results, one)) is not None]
    found: dict[str, tuple[list[tuple[str, Chart]], float, int]] = {
        LOSS: (_titled(losses), 520.0, 2),
        SUITES: (_titled(others), 520.0, 2),
        DISTANCE: ([(panel.title, panel.chart) for panel in distances], 440.0, 3),
        MAPS: ([(panel.title, panel.chart) for panel in map_panels(results)], 300.0, 3),
    }
    return {name: charts_png(charts, width, columns) for name, (charts, width, columns) in found.items() if charts}


def _titled(charts: Sequence[LineChart | None]) -> list[tuple[str, Chart]]:
    return [(chart.title, chart) for chart in charts if chart is not None]
