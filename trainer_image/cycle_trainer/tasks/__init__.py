"""The kinds of models that can be trained. A new one is a module here and a line in TASKS; nothing else changes."""

from collections.abc import Callable

from cycle_trainer.tasks.base import Task
from cycle_trainer.tasks.image_classification import ImageClassification
from cycle_trainer.tasks.language_modeling import LanguageModeling
from cycle_trainer.tasks.recommendation import Recommendation
from cycle_trainer.tasks.text_classification import TextClassification
from cycle_trainer.tasks.translation import Translation
from cycle_wire.parts import Task as TaskName
from cycle_wire.training import TrainingConfig

TASKS: dict[TaskName, Callable[[TrainingConfig], Task]] = {
    TaskName.TEXT_CLASSIFICATION: TextClassification,
    TaskName.LANGUAGE_MODELING: LanguageModeling,
    TaskName.IMAGE_CLASSIFICATION: ImageClassification,
    TaskName.TRANSLATION: Translation,
    TaskName.RECOMMENDATION: Recommendation,
}


def task_of(config: TrainingConfig) -> Task:
    """Reads the task's data and checks it. Raises BadInputError."""
    return TASKS[config.task](config)
