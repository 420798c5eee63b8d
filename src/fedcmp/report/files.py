"""The figures of the page as PNG files, for papers and README files."""

from fedcmp.report.charts.sheet import Chart, charts_png
from fedcmp.report.clientcurves import weight_panels
from fedcmp.report.comparison import Comparison
from fedcmp.report.curves import curve_chart
from fedcmp.report.methods import METRICS, curve_split

_WEIGHTS = "client_weights.png"
PNG_NAMES = (*(f"{metric.key}.png" for metric in METRICS), _WEIGHTS)


def png_files(comparison: Comparison) -> dict[str, bytes]:
    """Draw one file per metric that was measured, and one of the clients' weights.

    Returns:
        File name (one of PNG_NAMES) -> content; the same runs give the same bytes, no date or version is written.
    """
    split = curve_split(comparison.methods)
    charts = {f"{metric.key}.png": curve_chart(comparison, metric, split) for metric in METRICS}
    drawn = {name: charts_png([(chart.title, chart)], 640.0) for name, chart in charts.items() if chart is not None}
    weights: list[tuple[str, Chart]] = [
        (f"{panel.title}: clients' weights (%)", panel.chart) for panel in weight_panels(comparison)
    ]
    return {**drawn, _WEIGHTS: charts_png(weights, 360.0, columns=3)} if weights else drawn
