"""Runs each image's tests inside the image itself; ``clients`` is the server's with other projects' clients in it."""

import os
from pathlib import Path

import pytest

from tests.images.run import INSIDE, pytest_in, run_in_image

FOLDER = Path(__file__).parent


@pytest.mark.skipif(INSIDE in os.environ, reason="this is the inside")
@pytest.mark.parametrize("image", ["server", "clients", "trainer"])
def test_inside(image: str) -> None:
    done = run_in_image(image, pytest_in(image, f"tests/images/{image}"))
    print(done.stdout)
    assert done.returncode == 0, f"the tests inside the {image} image failed, see above"
    assert " passed" in done.stdout
