"""The example's texts and chats: what becomes of WordNet's lines."""

from pathlib import Path

from examples.demo_data.dictionary import entries, lesson, texts_of

NOUNS = """\
  1 This software and database is being provided to you, the LICENSEE, by Princeton University
00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is perceived; "it was full of rackets; balls"
00002137 05 n 02 hot_dog 0 dog 1 000 | a domestic animal; barks; "the dog barked"
"""
ADJECTIVES = "00003000 00 s 01 galore(ip) 0 000 | existing in abundance\n"


def test_entries_have_word_kind_and_gloss(tmp_path: Path) -> None:
    for part, lines in {"noun": NOUNS, "verb": "", "adj": ADJECTIVES, "adv": ""}.items():
        (tmp_path / f"data.{part}").write_text(lines)
    assert list(entries(tmp_path)) == [
        {"word": "entity", "kind": "n", "gloss": "that which is perceived"},
        {"word": "hot dog", "kind": "n", "gloss": "a domestic animal; barks"},
        {"word": "galore", "kind": "s", "gloss": "existing in abundance"},
    ]


def test_half_of_the_lessons_are_texts_and_half_are_chats() -> None:
    lessons = [lesson({"word": "apple", "kind": "n", "gloss": f"gloss {n}"}) for n in range(400)]
    texts = [item["text"] for item in lessons if "text" in item]
    chats = [item["messages"] for item in lessons if "messages" in item]
    assert len(texts) + len(chats) == 400 and 140 < len(texts) < 260
    assert all(text.startswith("apple: gloss ") for text in texts)
    question, answer = chats[0]
    assert question == {"role": "user", "content": "What is an apple?"}
    assert answer["role"] == "assistant" and answer["content"].startswith("gloss ")
    assert len(list(texts_of(lessons))) == len(texts) + 2 * len(chats)
