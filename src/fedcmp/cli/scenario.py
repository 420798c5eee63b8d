"""The verbs of `fedcmp scenario`: from pairs to embeddings, from these to clients, and what came of it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedcmp.extras import require

Similarity = Literal["image", "text", "joint", "cross"]
Division = Literal["clusters", "iid", "dirichlet", "sizes"]

scenario_app = typer.Typer(
    name="scenario",
    help="Cut a collection of pairs into realistic clients: embed, build, show, split.",
    no_args_is_help=True,
)


@scenario_app.command("embed")
def scenario_embed_command(
    source: Annotated[
        list[Path],
        typer.Argument(help="JSON files, tars, parquet files, or folders of the last two.", show_default=False),
    ],
    model: Annotated[
        str, typer.Option(help="'world', a folder or a hub name of a CLIP- or SigLIP-like model.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the embeddings; an interrupted one goes on.", show_default=False)
    ],
    format: Annotated[
        Literal["auto", "llava", "webdataset", "parquet"], typer.Option(help="Of SOURCE; auto: by its names.")
    ] = "auto",
    images: Annotated[
        Path | None,
        typer.Option(help="LLaVA JSON: the pictures' folder. Default: the JSON's own.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a call of the model.")] = 64,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes. Default: one a processor, or one on a GPU.", show_default=False),
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="auto: float16 on a GPU, else float32."),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Pairs a file. Default: 4096, or as begun.", show_default=False)
    ] = None,
    max_bad_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unusable pairs past which it stops.")
    ] = 0.01,
) -> None:
    """Embed pictures and captions of a collection, for `scenario build`.

    Example: fedcmp scenario embed cc12m/ --model google/siglip2-large-patch16-512 --out emb/
    """
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
        typer.echo(f"\ninterrupted; whole shards are kept in {out}: give the same command again to go on", err=True)
        raise
    typer.echo(f"embedded: {len(found):,} pairs in {found.width} dimensions: {out}")


@scenario_app.command("build")
def scenario_build_command(
    embeddings: Annotated[Path, typer.Argument(help="What `scenario embed` wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new folder.", show_default=False)],
    similarity: Annotated[Similarity, typer.Option(help="What is alike.")] = "image",
    division: Annotated[Division, typer.Option(help="From likeness to clients.")] = "clusters",
    clients: Annotated[int, typer.Option(help="How many.")] = 5,
    cap: Annotated[int | None, typer.Option(help="Most pairs a client keeps, the nearest.", show_default=False)] = None,
    rounds: Annotated[int, typer.Option(help="Parts of a client's pairs.")] = 10,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    held_out: Annotated[float, typer.Option(help="Share kept for evaluation.")] = 0.01,
    alpha: Annotated[float, typer.Option(help="dirichlet: small is unlike.")] = 0.5,
    groups: Annotated[int | None, typer.Option(help="dirichlet: clusters dealt out.", show_default=False)] = None,
    sizes: Annotated[str, typer.Option(help="sizes: 368000,1000000,...", show_default=False)] = "",
    batch_size: Annotated[int, typer.Option(help="A cap below it is refused.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Cut a collection into clients and rounds. The same embeddings, options and seed give the same bytes.

    Example: fedcmp scenario build EMB --similarity cross --cap 1000000 --out scenario/
    """
    from fedcmp.errors import UserError
    from fedcmp.scenarios.building import BuildOptions, build_scenario
    from fedcmp.scenarios.built import check_place
    from fedcmp.scenarios.embeddings.folder import EmbeddingFolder

    try:
        numbers = tuple(int(size) for size in sizes.split(",")) if sizes else ()
    except ValueError:
        raise UserError(f"--sizes {sizes}: give whole numbers with commas between them") from None
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
        say=lambda line: typer.echo(line, err=True),
    )
    built.write(out, overwrite=overwrite)
    for client in built.clients:
        held = f", {len(client.held_out):,} held out" if client.held_out else ""
        pruned = f", {client.pruned:,} left out" if client.pruned else ""
        typer.echo(f"{client.name:<12}{client.size:>12,} pairs{held}{pruned}")
    typer.echo(f"scenario: {out}")


@scenario_app.command("show")
def scenario_show_command(
    scenarios: Annotated[list[Path], typer.Argument(help="Scenarios of one collection.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Default: SCENARIO/report; of several, report/ beside the first.")
    ] = None,
    embeddings: Annotated[Path | None, typer.Option(help="The folder of embeddings, if it has moved.")] = None,
    sample: Annotated[int, typer.Option(min=8, max=10_000, help="Pairs on the maps and in the measures.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample and of the maps.")] = 0,
) -> None:
    """Write a page and figures: sizes, maps, how unlike the clients are, pictures and words of each.

    Example: fedcmp scenario show image/ cross/ joint/ text/ --out report/
    """
    for module in ("openTSNE", "sklearn"):
        require(module, "study", "scenario show")
    from fedcmp.cli.progress import Display
    from fedcmp.report.scenario import report_folder, write_scenario_report
    from fedcmp.scenarios.describing.description import describe_folders

    with Display(None) as display:
        facts, thumbnails = describe_folders(
            scenarios, embeddings=embeddings, seed=seed, sample=sample, progress=display.preparing
        )
    for path in write_scenario_report(facts, thumbnails, out or report_folder(scenarios)):
        typer.echo(f"report: {path}")


@scenario_app.command("split")
def scenario_split_command(
    scenario: Annotated[Path, typer.Argument(help="A folder that `fedcmp scenario build` wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new folder: one folder a client.", show_default=False)],
) -> None:
    """Write each client's share as a scenario of its own: what that client needs, and nothing about the others.

    Example: fedcmp scenario split scenario/ --out shares/
    """
    from fedcmp.scenarios.built import BuiltScenario, split

    for path in split(BuiltScenario.read(scenario), out):
        typer.echo(f"share: {path}")
