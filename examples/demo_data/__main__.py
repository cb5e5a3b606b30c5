"""Fills the volumes of the examples: prepare.py for texts, dictionary.py for language models, digits.py for images,
descriptions.py for translation, imports.py for a recommender.
"""

import argparse
from pathlib import Path

from examples.demo_data.descriptions import DESCRIPTIONS, write_descriptions
from examples.demo_data.dictionary import write_dictionary
from examples.demo_data.digits import write_digits
from examples.demo_data.imports import write_imports
from examples.demo_data.prepare import WORDNET, write_supersenses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of the models volume")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data volume")
    parser.add_argument("--wordnet", type=Path, default=WORDNET, help="WordNet's database files")
    parser.add_argument("--descriptions", type=Path, default=DESCRIPTIONS, help="apt's Translation files")
    parser.add_argument("--faults", action="store_true", help="also write DATA/faults/")
    arguments = parser.parse_args()
    write_supersenses(models=arguments.models, data=arguments.data, wordnet=arguments.wordnet, faults=arguments.faults)
    write_dictionary(models=arguments.models, data=arguments.data, wordnet=arguments.wordnet)
    write_digits(models=arguments.models, data=arguments.data)
    write_descriptions(models=arguments.models, data=arguments.data, source=arguments.descriptions)
    write_imports(models=arguments.models, data=arguments.data)


if __name__ == "__main__":
    main()
