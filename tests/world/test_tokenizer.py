from fedcmp.world.scene import make_scenes
from fedcmp.world.tokenizer import vocabulary, world_tokenizer


def test_the_vocabulary_covers_the_world():
    tokenizer = world_tokenizer()
    scenes = make_scenes(11, 0, 3000, images=False)
    texts = scenes.captions + [f"question : {q.text} answer : {q.answer}" for qs in scenes.questions for q in qs]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert all(tokenizer.unk_token_id not in row for row in ids)


def test_one_token_a_word_and_back_again():
    tokenizer = world_tokenizer()
    caption = "a photo of a small red circle at the top left ."
    ids = tokenizer(caption)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert len(ids) == 1 + len(caption.split())
    assert tokenizer.convert_ids_to_tokens(ids[1:]) == caption.split()


def test_special_tokens_survive_the_splitting():
    tokenizer = world_tokenizer()
    ids = tokenizer("<image><image><sep>question : what color is the circle ?", add_special_tokens=False)["input_ids"]
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert ids[:3] == [image, image, tokenizer.sep_token_id]


def test_ids_are_positions_in_the_vocabulary():
    tokenizer, words = world_tokenizer(), vocabulary()
    assert len(set(words)) == len(words) == len(tokenizer)
    assert tokenizer.convert_tokens_to_ids(words) == list(range(len(words)))
