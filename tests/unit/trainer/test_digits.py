"""The example's images: what becomes of scikit-learn's scans, and a split that is the same every time."""

from examples.demo_data.digits import row_of, split


def test_shades_are_spread_over_all_of_a_byte() -> None:
    assert row_of([[0.0, 8.0], [15.0, 16.0]], 7) == {"image": [[0, 128], [239, 255]], "digit": 7}


def test_equal_images_are_on_one_side_whatever_the_order() -> None:
    rows = [row_of([[n % 17, n // 17 % 17]], n % 10) for n in range(500)]
    training, evaluation = split(rows)
    images = [{str(row["image"]) for row in part} for part in (training, evaluation)]
    assert not images[0] & images[1] and len(training) + len(evaluation) == 500
    assert 50 < len(evaluation) < 150
    assert [row["image"] for row in split(rows[::-1])[1]] == [row["image"] for row in evaluation]
