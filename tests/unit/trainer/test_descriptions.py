"""The example's translations: what becomes of apt's Translation files."""

from examples.demo_data.descriptions import descriptions, pairs, split

ENGLISH = """\
Package: chess
Description-md5: 01
Description-en: program to play chess (data files)
 This program plays
 chess.
 .
 It has:
  * a board

Package: other
Description-md5: 02
Description-en: nobody translated this
 At all.

"""
GERMAN = """\
Package: chess
Description-md5: 01
Description-de: Schachprogramm (Datendateien)
 Dieses Programm spielt
 Schach.
 .
 Es hat:
  * ein Brett

Package: gone
Description-md5: 03
Description-de: Das gibt es nicht mehr
 Gar nicht.
"""


def test_titles_and_paragraphs_that_both_languages_have_are_paired() -> None:
    found = list(pairs(descriptions(ENGLISH, language="en"), descriptions(GERMAN, language="de")))
    assert found == [
        (
            "program to play chess",
            {"text": "program to play chess (data files)", "translation": "Schachprogramm (Datendateien)"},
        ),
        (
            "program to play chess",
            {"text": "This program plays chess.", "translation": "Dieses Programm spielt Schach."},
        ),
    ]


def test_paragraphs_that_do_not_match_are_left_out() -> None:
    german = GERMAN.replace(" .\n Es hat:\n  * ein Brett\n", "")
    found = list(pairs(descriptions(ENGLISH, language="en"), descriptions(german, language="de")))
    assert [row["text"] for _, row in found] == ["program to play chess (data files)"]


def test_a_family_is_on_one_side_whatever_the_order() -> None:
    rows = [(f"family {n % 200}", {"text": f"text {n}", "translation": f"Text {n}"}) for n in range(1000)]
    training, evaluation = split(rows)
    families = [{int(row["text"].split()[1]) % 200 for row in part} for part in (training, evaluation)]
    assert not families[0] & families[1] and len(training) + len(evaluation) == 1000
    assert 10 < len(evaluation) < 120
    assert split(rows[::-1]) == (training, evaluation)
