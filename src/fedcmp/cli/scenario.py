"""The verbs of `fedcmp scenario`: from pairs to embeddings, from embeddings to clients, and a report of them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedcmp.cli.options import Device, check_numbers
from fedcmp.cli.output import begin, note, result
from fedcmp.errors import UserError
from fedcmp.extras import require

Similarity = Literal["image", "text", "joint", "cross"]
Division = Literal["clusters", "iid", "dirichlet", "sizes"]

scenario_app = typer.Typer(
    name="scenario",
    help="Divide a collection of image-caption pairs into realistic clients: embed, build, show, split.",
    no_args_is_help=True,
)


@scenario_app.command("embed")
def scenario_embed_command(
    source: Annotated[
        list[Path],
        typer.Argument(help="JSON, tar or parquet files, or folders of the latter.", show_default=False),
    ],
    model: Annotated[
        str,
        typer.Option(help="CLIP or SigLIP: 'world', folder or hub name.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; an interrupted run resumes.", show_default=False)],
    format: Annotated[
        Literal["auto", "llava", "webdataset", "parquet"],
        typer.Option(help="Format of SOURCE; auto: by the file names."),
    ] = "auto",
    images: Annotated[
        Path | None,
        typer.Option(help="Image folder of LLaVA JSON.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs per forward pass.")] = 64,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes. Default: one per core or GPU.", show_default=False),
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="auto: float16 on a GPU, else float32."),
    ] = "auto",
    device: Device = "auto",
    shard_size: Annotated[
        int | None,
        typer.Option(min=1, help="Pairs per shard. Default: 4096.", show_default=False),
    ] = None,
    max_bad_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unusable pairs above which it stops.")
    ] = 0.01,
) -> None:
    """Compute image and caption embeddings of a collection, the input of `scenario build`.

    Example: fedcmp scenario embed cc12m/ --model google/siglip2-large-patch16-512 --out emb/
    """
    check_numbers(batch_size=batch_size, workers=workers, shard_size=shard_size)
    begin(f"{out}: embedding {', '.join(map(str, source[:3]))}{' ...' if len(source) > 3 else ''}")
    from fedcmp.cli.progress import Display
    from fedcmp.scenarios.embeddings.collection import embed_collection
    from fedcmp.scenarios.embeddings.pair_files import find_pairs

    pairs = find_pairs(source, format=format, images=images)
    try:
        with Display(None) as display:
            found = embed_collection(
                pairs,
                model,
                out,
                batch_size=batch_size,
                workers=workers,
                dtype=dtype,
                device=device,
                shard_size=shard_size,
                max_bad_fraction=max_bad_fraction,
                progress=display.preparing,
            )
    except KeyboardInterrupt:
        note("")
        note(f"interrupted; whole shards are kept in {out}: give the same command again to continue")
        raise
    result(f"embedded: {len(found):,} pairs in {found.width} dimensions: {out}")


@scenario_app.command("build")
def scenario_build_command(
    embeddings: Annotated[Path, typer.Argument(help="Folder written by `scenario embed`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Output folder.", show_default=False)],
    similarity: Annotated[Similarity, typer.Option(help="Similarity used for clustering.")] = "image",
    division: Annotated[
        Division,
        typer.Option(help="How pairs are assigned: one cluster per client, IID, Dirichlet or fixed sizes."),
    ] = "clusters",
    clients: Annotated[int, typer.Option(help="Number of clients.")] = 5,
    cap: Annotated[
        int | None,
        typer.Option(
            help="Maximum pairs per client; those nearest the centroid are kept.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds to split a client's pairs into.")] = 10,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    held_out: Annotated[float, typer.Option(help="Share held out for evaluation.")] = 0.01,
    alpha: Annotated[
        float, typer.Option(help="Dirichlet concentration; smaller values give more heterogeneous clients.")
    ] = 0.5,
    groups: Annotated[
        int | None,
        typer.Option(
            help="Dirichlet: number of clusters.",
            show_default=False,
        ),
    ] = None,
    sizes: Annotated[str, typer.Option(help="Fixed sizes: 368000,1000000,...", show_default=False)] = "",
    batch_size: Annotated[int, typer.Option(help="Batch size of the training to come.")] = 16,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output folder.")] = False,
) -> None:
    """Assign a collection's pairs to clients and rounds. Equal embeddings, options and seeds give equal bytes.

    Example: fedcmp scenario build EMB --similarity cross --cap 1000000 --out scenario/
    """
    try:
        numbers = tuple(int(size) for size in sizes.split(",")) if sizes else ()
    except ValueError:
        raise UserError(f"--sizes {sizes}: give whole numbers with commas between them") from None
    check_numbers(clients=clients, cap=cap, rounds=rounds, seed=seed, alpha=alpha, groups=groups, batch_size=batch_size)
    if not embeddings.is_dir():
        raise UserError(f"{embeddings}: no such folder; name one that `fedcmp scenario embed` wrote")
    begin(f"{out}: assigning the pairs of {embeddings} to clients")
    from fedcmp.scenarios.building import BuildOptions, build_scenario
    from fedcmp.scenarios.built import check_place
    from fedcmp.scenarios.embeddings.folder import EmbeddingFolder

    options = BuildOptions(
        similarity=similarity,
        division=division,
        clients=clients,
        cap=cap,
        rounds=rounds,
        seed=seed,
        held_out=held_out,
        alpha=alpha,
        groups=groups,
        sizes=numbers,
        batch_size=batch_size,
    )
    check_place(out, overwrite=overwrite)
    built = build_scenario(
        EmbeddingFolder(embeddings),
        options,
        device=device,
        say=note,
    )
    built.write(out, overwrite=overwrite)
    for client in built.clients:
        held = f", {len(client.held_out):,} held out" if client.held_out else ""
        pruned = f", {client.pruned:,} left out" if client.pruned else ""
        result(f"{client.name:<12}{client.size:>12,} pairs{held}{pruned}")
    result(f"scenario: {out}")


@scenario_app.command("show")
def scenario_show_command(
    scenarios: Annotated[
        list[Path], typer.Argument(help="One or more scenario folders of the same collection.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output folder. Default: SCENARIO/report, or report/ next to the first of several.", show_default=False
        ),
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Folder of the embeddings, if it has moved.", show_default=False)
    ] = None,
    sample: Annotated[
        int, typer.Option(min=8, max=10_000, help="Number of pairs on the maps and in the statistics.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the sample and the maps.")] = 0,
) -> None:
    """Report on scenarios: sizes, maps, heterogeneity of the clients, sample images and words of each.

    Example: fedcmp scenario show image/ cross/ joint/ text/ --out report/
    """
    for module in ("openTSNE", "sklearn"):
        require(module, "study", "scenario show")
    check_numbers(seed=seed)
    begin(f"{', '.join(map(str, scenarios[:3]))}: measuring the clients")
    from fedcmp.cli.progress import Display
    from fedcmp.report.scenario import report_folder, write_scenario_report
    from fedcmp.scenarios.describing.description import describe_folders

    with Display(None) as display:
        facts, thumbnails = describe_folders(
            scenarios, embeddings=embeddings, seed=seed, sample=sample, progress=display.preparing
        )
    for path in write_scenario_report(facts, thumbnails, out or report_folder(scenarios)):
        result(f"report: {path}")


@scenario_app.command("split")
def scenario_split_command(
    scenario: Annotated[Path, typer.Argument(help="Folder written by `scenario build`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Output folder, one folder per client.", show_default=False)],
) -> None:
    """Write one scenario per client, with what that client needs and nothing about the others.

    Example: fedcmp scenario split scenario/ --out shares/
    """
    begin(f"{out}: splitting {scenario}")
    from fedcmp.scenarios.built import BuiltScenario, split

    for path in split(BuiltScenario.read(scenario), out):
        result(f"share: {path}")
