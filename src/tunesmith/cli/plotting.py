"""The loss curve as text."""

import shutil
import sys

from tunesmith.cli.client import Json

_HEIGHT = 20
_MAX_WIDTH = 120


def loss_curve(events: list[Json]) -> str | None:
    """Training and validation loss over the steps; none where nothing was reported."""
    import plotext

    figure = plotext.figure.clear()
    figure.plot_size(min(shutil.get_terminal_size().columns, _MAX_WIDTH), _HEIGHT)
    figure.label("step", "x")
    figure.title("loss")
    drawn = False
    for kind, name in (("metrics", "training"), ("evaluated", "validation")):
        points = [event["data"] for event in events if event["kind"] == kind]
        if not points:
            continue
        signal = figure.signal([point["step"] for point in points], [point["loss"] for point in points])
        figure.draw(signal.label(name).lines())
        drawn = True
    if not drawn:
        return None
    built = figure.build()
    return str(built) if sys.stdout.isatty() else str(plotext.uncolorize(built))
