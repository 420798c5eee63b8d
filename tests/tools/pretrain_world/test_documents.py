from collections import Counter

import pytest

from fedcmp.world.scene import make_scenes
from fedcmp.world.tokenizer import EOS, SEPARATOR, vocabulary
from fedcmp.world.words import COLUMNS, ROWS, STYLES
from tools.pretrain_world.documents import BagEncoder, DocumentWriter

WORDS = vocabulary()
BODIES = ("caption", "questions", "checks", "places")


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(404, 0, 400, images=False)


@pytest.fixture(scope="module")
def written(scenes):
    """Body -> its documents, one a scene."""
    return {body: DocumentWriter(BagEncoder(), (body,)).documents(scenes) for body in BODIES}


def parts(document):
    """Words in front of the separator; words of the body, and their weights."""
    words = [WORDS[i] for i in document.ids]
    cut = words.index(SEPARATOR)
    return words[:cut], words[cut + 1 : -1], document.weights[cut + 1 : -1]


def statements(words, weights):
    """What stands between commas."""
    out = [[]]
    for word, weight in zip(words, weights, strict=True):
        out[-1].append((word, weight))
        if word == ",":
            out.append([])
    assert out.pop() == []
    return out


def shown_in(content):
    """(row, column, words) of the cells that show something."""
    return [(*divmod(cell, 3), text.split()) for cell, text in enumerate(content.cell_words()) if text]


def find(content, name):
    """Row and column of the one object that a name is about; a chart's bars stand on the bottom row."""
    column = {(row, x) for row, x, words in shown_in(content) if set(name.split()) <= set(words)}
    if content.family == "chart":
        column = {place for place in column if place[0] == 2}
    ((row, x),) = column
    return row, x


@pytest.mark.parametrize("body", BODIES)
def test_ids_and_weights_align(scenes, written, body):
    assert [document.row for document in written[body]] == list(range(len(scenes)))
    for document in written[body]:
        assert len(document.ids) == len(document.weights)
        words = [WORDS[i] for i in document.ids]
        assert words.count(SEPARATOR) == words.count(EOS) == 1
        assert words[-1] == EOS
        assert document.weights[-1] == 1
        assert not any(document.weights[: words.index(SEPARATOR) + 1])  # what is told is not learned
        assert any(document.weights[:-1])


def test_prefixes_are_all_used_and_hold_what_they_say(scenes, written):
    assert {document.prefix for document in written["caption"]} == {"cells", "notes", "caption", "noise", "none"}
    for document in written["caption"]:
        told, _, _ = parts(document)
        if document.prefix == "caption":
            assert " ".join(told) == scenes.captions[document.row]
        elif document.prefix != "notes":
            assert told == []


def test_notes_tell_every_cell_of_up_to_three(scenes, written):
    seen = Counter()
    for document in written["caption"]:
        shown = shown_in(scenes.contents[document.row])
        if document.prefix == "notes":
            told, _, _ = parts(document)
            *cells, style = " ".join(told).split(" ,")
            assert style.split() == [STYLES[scenes.styles[document.row]]]
            expected = [" ".join([*words, ROWS[row], COLUMNS[column]]) for row, column, words in shown]
            assert sorted(cell.strip() for cell in cells) == sorted(expected)
            seen[len(shown)] += 1
    assert set(seen) == {1, 2, 3}


def test_a_caption_is_learned_whole(scenes, written):
    for document in written["caption"]:
        _, words, weights = parts(document)
        assert " ".join(words) == scenes.captions[document.row]
        assert set(weights) == {1.0}


def test_questions_are_the_scenes_own_with_their_answers(scenes, written):
    known = 0
    for document in written["questions"]:
        _, words, weights = parts(document)
        answers = {question.text: question.answer for question in scenes.questions[document.row]}
        asked = " ".join(words).split("question : ")[1:]
        assert 1 <= len(asked) <= 6
        for question in asked:
            text, answer = question.split(" answer : ")
            assert answers.get(text, answer.strip()) == answer.strip()
            known += text in answers
        for i, weight in enumerate(weights):
            assert weight == (2.0 if words[i - 2 : i] == ["answer", ":"] else 0.05)
    assert known > len(scenes)


def test_checks_say_yes_exactly_for_words_that_a_cell_shows(scenes, written):
    said = Counter()
    for document in written["checks"]:
        _, words, weights = parts(document)
        shown = [words for _, _, words in shown_in(scenes.contents[document.row])]
        checks = statements(words, weights)
        assert len(checks) == 6
        for (word, first), (answer, weight), *mates, (_, last) in checks:
            cells = [cell for cell in shown if word in cell]
            assert answer == ("yes" if cells else "no")
            assert (first, weight, last) == (0, 1, 0)
            assert all(mate_weight == 1 for _, mate_weight in mates)
            company = [mate for mate, _ in mates]
            assert company in [[w for w in cell if w != word] for cell in cells] if cells else company == []
            said[answer] += 1
    assert 0.45 < said["yes"] / said.total() < 0.55


def test_places_are_true(scenes, written):
    said, families = Counter(), Counter()
    for document in written["places"]:
        content = scenes.contents[document.row]
        _, words, weights = parts(document)
        if content.family not in ("shapes", "arrow", "chart") or len(shown_in(content)) < 2:
            assert " ".join(words) == scenes.captions[document.row]  # nothing to say about places
            continue
        families[content.family] += 1
        for statement in statements(words, weights):
            text = [word for word, _ in statement[:-1]]
            if text[-1] in ("yes", "no"):
                at = next(i for i in range(len(text)) if text[i] in ("above", "below") or text[i + 1 : i + 2] == ["of"])
                length = 1 if text[at] in ("above", "below") else 2
                first = find(content, " ".join(text[:at]))
                second = find(content, " ".join(text[at + length : -1]))
                true = {
                    "left": first[1] < second[1],
                    "right": first[1] > second[1],
                    "above": first[0] < second[0],
                    "below": first[0] > second[0],
                }[text[at]]
                assert text[-1] == ("yes" if true else "no")
                assert [weight for _, weight in statement] == [*[0.0] * (len(text) - 1), 2.0, 0.0]
            else:
                *name, row, column = text
                assert find(content, " ".join(name)) == (ROWS.index(row), COLUMNS.index(column))
                assert [weight for _, weight in statement] == [*[0.0] * len(name), 1.0, 1.0, 0.0]
            said[text[-1]] += 1
    assert set(families) == {"shapes", "arrow", "chart"}
    assert 0.4 < said["yes"] / (said["yes"] + said["no"]) < 0.6
    assert all(said[column] for column in COLUMNS)


def test_all_bodies_asked_for_are_written(scenes, written):
    mixed = DocumentWriter(BagEncoder(), BODIES).documents(scenes)
    kinds = Counter()
    for row, document in enumerate(mixed):
        same = [body for body in BODIES if written[body][row] == document]
        assert same
        if len(same) == 1:
            kinds[same[0]] += 1
    assert all(kinds[body] > len(scenes) / 20 for body in BODIES)


def test_documents_depend_on_the_scene_alone(scenes, written):
    later = make_scenes(404, 100, 50, images=False)
    for body in BODIES:
        again = DocumentWriter(BagEncoder(), (body,)).documents(later)
        assert [document.ids for document in again] == [document.ids for document in written[body][100:150]]
