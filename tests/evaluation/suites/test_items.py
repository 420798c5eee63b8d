import dataclasses
import hashlib
import json

import numpy as np

from fedcmp.evaluation.suites.items import Item, Picture, SuiteItems, asked, draw
from fedcmp.world.scene import make_scenes


def pictures(count, seed=3):
    scenes = make_scenes(seed, 0, count)
    rows = zip(scenes.contents, scenes.styles.tolist(), scenes.draws, strict=True)
    return scenes, [Picture(content, style, draws) for content, style, draws in rows]


def test_pictures_are_drawn_as_the_world_draws_its_scenes():
    scenes, own = pictures(300)
    np.testing.assert_array_equal(draw(own), scenes.images)


def test_the_digest_is_over_items_and_pixels():
    _, own = pictures(2)
    suite = SuiteItems(own, [Item(0, 0, "a", asked("are there stars ?"), answer="yes", options=("yes", "no"))])
    images = suite.images()
    found = suite.digest(images)
    text = json.dumps([dataclasses.asdict(item) for item in suite.items], sort_keys=True)
    assert found == hashlib.sha256(text.encode() + images.tobytes()).hexdigest()
    images[1, 5, 5, 0] ^= 1
    assert suite.digest(images) != found
    other = SuiteItems(own, [dataclasses.replace(suite.items[0], answer="no")])
    assert other.digest(suite.images()) != found


def test_a_question_is_asked_as_the_world_asks_it():
    assert asked("are there stars ?") == "question : are there stars ? answer :"
    assert {Picture(None, style, None).kind for style in range(6)} == {
        "photo",
        "sketch",
        "night picture",
        "negative",
        "noisy picture",
        "painting",
    }
