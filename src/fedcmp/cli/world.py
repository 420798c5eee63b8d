"""The verbs of `fedcmp world`: the embedded world as files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedcmp.cli.options import check_numbers
from fedcmp.cli.output import begin, result
from fedcmp.extras import require

world_app = typer.Typer(
    name="world",
    help="Write the embedded world's images as datasets: export, benchmarks.",
    no_args_is_help=True,
)


@world_app.command("export")
def world_export_command(
    folder: Annotated[Path, typer.Argument(help="New folder for the dataset.", show_default=False)],
    format: Annotated[
        Literal["llava", "webdataset", "parquet"],
        typer.Option(help="Format: LLaVA's JSON with an image folder, WebDataset tars, or parquet."),
    ] = "llava",
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Split; no two splits share an image.")
    ] = "train",
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 1000,
    picture: Annotated[Literal["png", "jpeg"], typer.Option(help="File format of the images.")] = "png",
    world: Annotated[
        Literal["embedded", "untouched"],
        typer.Option(help="World: embedded, or untouched, whose families and styles the frozen models never saw."),
    ] = "embedded",
) -> None:
    """Write drawn images of the embedded world with captions and questions, as a dataset to train on.

    Example: fedcmp world export scenes/ --format webdataset --count 5000
    """
    check_numbers(count=count)
    begin(f"{folder}: drawing {count:,} images")
    from fedcmp.cli.steps import Steps
    from fedcmp.world.export import export_world

    with Steps() as steps:
        written = export_world(
            folder,
            split=split,
            count=count,
            format=format,
            picture=picture,
            world=world,
            on_progress=lambda done, total: steps.preparing("drawing images", done, total),
        )
    result(f"exported: {written}")


@world_app.command("benchmarks")
def world_benchmarks_command(
    folder: Annotated[Path, typer.Argument(help="New folder for the benchmarks.", show_default=False)],
    split: Annotated[Literal["validation", "test"], typer.Option(help="Split; no two splits share an image.")] = "test",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Write only the first N images of each. Default: all.", show_default=False),
    ] = None,
) -> None:
    """Write the embedded world's own versions of POPE, MME and MMBench in the formats that lmms-eval reads.

    Example: fedcmp world benchmarks datasets/
    """
    check_numbers(limit=limit)
    require("pyarrow", "parquet", "the real benchmarks' formats")
    begin(f"{folder}: drawing benchmarks")
    from fedcmp.evaluation.lmms.world_tables import write_world_benchmarks

    for name, items in write_world_benchmarks(folder, split=split, limit=limit).items():
        result(f"{name}: {len(items)} rows")
