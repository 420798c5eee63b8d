"""The recipe by which a site works: the server's settings of the training, the site's own data, models and limits.

Of a server's recipe a site takes numbers and choices: rounds, batch size, schedule, objectives, the projector's kind,
the text format. Every path, every model and every limit is the site's own; what names one in the server's recipe is not
even read.
"""

import tomllib
from pathlib import Path

from fedcmp.config import Recipe, parse_recipe
from fedcmp.config.sections import ClientData, Data, Deployment, Model, Run, Scenario
from fedcmp.deployment.refusals import Declined
from fedcmp.deployment.site_file import Site
from fedcmp.errors import UserError

# a server's choices that a site follows; all else of these sections is the site's own
_MODEL = ("vision_layer", "vision_strategy", "separator", "prompt", "instruction", "projector", "initialisation")
_DATA = ("train_share", "held_out", "max_caption_tokens", "max_unknown_fraction", "feature_dtype")


def site_recipe(text: str, site: Site, folder: Path) -> Recipe:
    """Return the recipe by which this site works.

    Args:
        text: the server's recipe as TOML.
        site: SITE.toml.
        folder: where the site keeps this run.

    Raises:
        Declined: the server's recipe is none.
    """
    asked = read_server_recipe(text)
    model = Model(
        **{key: getattr(asked.model, key) for key in _MODEL},
        vision=site.model.vision,
        language=site.model.language,
        device=site.model.device,
        dtype=site.model.dtype or ("float32" if asked.model.dtype == "auto" else asked.model.dtype),
    )
    given = site.data
    data = {
        **{key: getattr(asked.data, key) for key in _DATA},
        "format": given.format,
        "max_bad_fraction": given.max_bad_fraction,
        "max_pixels": given.max_pixels,
        "feature_store": given.feature_store,
    }
    if given.scenario is None:
        own = ClientData(name=site.site.name, pairs=given.pairs, images=given.images)
        data |= {"clients": [own]}
        scenario = Scenario(kind="given", clients=1)
    else:
        data |= {"pairs": given.pairs, "images": given.images}
        scenario = Scenario(
            kind="manifest",
            manifest=given.scenario,
            clients=1,
            max_missing_fraction=asked.scenario.max_missing_fraction,
        )
    return asked.model_copy(
        update={
            "run": Run(
                name=folder.name,
                folder=folder.parent,
                seed=asked.run.seed,
                methods=asked.run.methods,
                workers=1,
                cache=site.site.folder / "cache",
                save_seconds=site.limits.save_seconds,
            ),
            "model": model,
            "data": Data(**data),
            "scenario": scenario,
            # of a federation with one client: what is the server's business alone is left out
            "deployment": Deployment(),
            "federation": asked.federation.model_copy(
                update={"min_clients": 1, "participation": 1.0, "mode": "sync", "buffer_size": None}
            ),
            "evaluation": asked.evaluation.model_copy(
                update={"questions": None, "questions_per_kind": 0, "samples": 0, "captions": _share(asked)}
            ),
        }
    )


def read_server_recipe(text: str) -> Recipe:
    """Read a recipe that came from a server.

    Raises:
        Declined: it is no recipe.
    """
    try:
        return parse_recipe(tomllib.loads(text), "the server's recipe")
    except UserError as error:
        raise Declined(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Declined(f"the server's recipe is not valid TOML: {error}") from error


def _share(asked: Recipe) -> int:
    """Captions that this site judges: its share of what the recipe asks for in all."""
    return max(1, -(-asked.evaluation.captions // max(1, len(asked.deployment.sites))))
