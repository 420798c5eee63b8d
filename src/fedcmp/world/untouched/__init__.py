"""The untouched world: families and styles that no tuning of this project and no frozen part has seen.

It has the embedded world's vocabulary, grid and colours, and nothing else of it: other content families, other styles,
other tiles, other streams of random integers. What the package ships was pretrained on the embedded world alone.
"""

from fedcmp.world.scene import World
from fedcmp.world.untouched.objects import Dice, Groups, Nested, Things
from fedcmp.world.untouched.pictures import Animals, Bands, Columns, Dials, Halves
from fedcmp.world.untouched.render import render_layers
from fedcmp.world.untouched.sprites import untouched_atlas
from fedcmp.world.untouched.words import STYLE_PHRASES, STYLES

UNTOUCHED = World(
    name="untouched",
    revision="1",
    shares={
        Things: 22,
        Groups: 12,
        Nested: 12,
        Dice: 10,
        Dials: 10,
        Columns: 10,
        Bands: 8,
        Halves: 8,
        Animals: 8,
    },
    styles=STYLES,
    style_phrases=STYLE_PHRASES,
    streams={"train": 90_202, "validation": 90_505, "test": 90_101},
    atlas=untouched_atlas,
    render=render_layers,
)
