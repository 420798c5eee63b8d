"""Published code, trained at a size for tests: one worker, few held-out pairs, one round."""

import functools

SMALL = {
    "run.workers": 1,
    "federation.rounds": 1,
    "evaluation": {"captions": 16, "questions_per_kind": 1, "samples": 1, "sample_tokens": 3},
}


def small_training(train):
    """`fedcmp.train` with these overrides behind the caller's own."""

    @functools.wraps(train)
    def small(recipe, **options):
        return train(recipe, **options, **SMALL)

    return small
