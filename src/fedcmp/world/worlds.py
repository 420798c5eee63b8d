"""The drawn worlds by name: what data.world in a recipe stands for."""

from fedcmp.world.scene import EMBEDDED, World
from fedcmp.world.untouched import UNTOUCHED

WORLDS: dict[str, World] = {world.name: world for world in (EMBEDDED, UNTOUCHED)}
