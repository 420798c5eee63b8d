"""Open a run: its figures, its report, what its models say, and the model to take along."""

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcmp.api.table import ResultTable, result_table
from fedcmp.errors import UserError
from fedcmp.extras import quiet_libraries

if TYPE_CHECKING:
    import pandas
    from PIL.Image import Image

    from fedcmp.finished.captioner import Captioner


class Run:
    """Look at one run's folder, with one or several methods; `fedcmp.train` and `fedcmp.load` return it.

    Attributes:
        folder: where it is kept.
    """

    def __init__(self, folder: "str | os.PathLike[str]") -> None:
        self.folder = Path(folder)
        self._captioner: Captioner | None = None  # the last one, for its frozen models
        self._folders  # noqa: B018 - a folder without a run is refused here

    @property
    def _folders(self) -> dict[str, Path]:
        """Return method -> its own folder."""
        from fedcmp.runs.reading import load_runs

        found: dict[str, Path] = {}
        for run in load_runs(self.folder):
            name = run.method if run.method not in found else str(run.folder.relative_to(self.folder))
            found[name] = run.folder
        return found

    @property
    def methods(self) -> list[str]:
        """Return the methods that were run; where a method was run several times, the later ones by their folder."""
        return list(self._folders)

    @property
    def best(self) -> str | None:
        """Return the federated method with the lowest caption loss; None before anything was measured."""
        from fedcmp.report.comparison import Comparison
        from fedcmp.runs.reading import load_runs

        best = Comparison.of(load_runs(self.folder)).best
        return None if best is None else best.name

    @property
    def finished(self) -> bool:
        """Return whether every method came to its end."""
        from fedcmp.runs.reading import load_runs

        return all(run.finished for run in load_runs(self.folder))

    @property
    def table(self) -> "pandas.DataFrame | ResultTable":
        """Return each method's figures: a DataFrame indexed by method where pandas is installed, else a `ResultTable`.

        Losses are in nats per caption token, accuracies from 0 to 1. Read anew each time, so that a run that is still
        working can be watched.
        """
        from importlib.util import find_spec

        table = result_table(self.folder)
        return table.to_pandas() if find_spec("pandas") is not None else table

    def report(self, out: "str | os.PathLike[str] | None" = None) -> Path:
        """Write the HTML report, its figures and tables.md.

        Args:
            out: where to write; default: report/ in the run's folder.

        Returns:
            The path of index.html.
        """
        from fedcmp.report.writing import write_report

        return write_report(self.folder, None if out is None else Path(out))

    def caption(
        self,
        image: "str | os.PathLike[str] | bytes | Image",
        *,
        method: str | None = None,
        client: int | None = None,
        round: str | int = "last",
        max_tokens: int = 40,
    ) -> str:
        """Let the trained model caption an image.

        The frozen models are loaded at the first call and kept.

        Args:
            image: a file, its bytes, or a Pillow image.
            method: whose projector; default: the best federated method, or the only one. "initial" is the untrained
                projector, "blind" the LLM without the image.
            client: the client whose projector to use, for local-only runs.
            round: of which round the projector is: "last", "best" (the lowest loss on held-out pairs) or a number.
            max_tokens: longest caption.

        Returns:
            The caption, by greedy decoding.

        Raises:
            UserError: no such method or client, no such checkpoint, or a file that is no image.
        """
        quiet_libraries()
        from fedcmp.finished.captioner import REFERENCES, Captioner, open_image

        if max_tokens < 1:
            raise UserError(f"max_tokens = {max_tokens}: must be at least 1")
        opened = open_image(image)
        chosen = self._chosen(None if method in REFERENCES else method)
        who = method if method in REFERENCES else "trained"
        # the projector is read anew: the run may still be working
        place, like = self._folders[chosen], self._captioner
        self._captioner = Captioner(place, who=str(who), client=client, at=str(round), like=like)
        return self._captioner.caption(opened, max_tokens=max_tokens)

    def export(
        self,
        path: "str | os.PathLike[str]",
        *,
        method: str | None = None,
        client: int | None = None,
        round: str | int = "last",
    ) -> Path:
        """Write a method's model as a Hugging Face LLaVA folder.

        Args:
            path: a new folder.
            method: which; default: the best federated method, or the only one.
            client: the client whose projector to use, for local-only runs.
            round: of which round: "last", "best" (the lowest loss on held-out pairs) or a number.

        Returns:
            The folder, for `LlavaForConditionalGeneration.from_pretrained`.

        Raises:
            UserError: no such method or client, no such checkpoint, or the folder holds a model.
        """
        quiet_libraries()
        from fedcmp.finished.export import export_run

        return export_run(self._folders[self._chosen(method)], Path(path), client=client, at=str(round))

    def _chosen(self, method: str | None) -> str:
        if method is None:
            method = self.methods[0] if len(self.methods) == 1 else self.best
        if method not in self._folders:
            raise UserError(f"{self.folder}: no method {method!r}; there are {', '.join(self.methods)}")
        return method

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {', '.join(self.methods)}{'' if self.finished else '; unfinished'})"

    def _repr_html_(self) -> str:
        table: Any = self.table
        return f"<p>{html.escape(repr(self))}</p>{table._repr_html_()}"


def load(folder: "str | os.PathLike[str]") -> Run:
    """Open a run's folder, finished or not.

    Args:
        folder: for example runs/demo, or runs/demo/shared-basis for one of its methods.

    Raises:
        UserError: no such folder, or no run in it.
    """
    return Run(folder)
