"""Metrics of each task, and which way of each is better. Names are open: one that isn't here is better when higher."""

from cycle_wire.parts import Evaluation, Task

# The first is the one that stands for a model when nobody names another.
METRICS: dict[Task, tuple[str, ...]] = {
    Task.TEXT_CLASSIFICATION: ("accuracy", "f1Macro"),
    Task.IMAGE_CLASSIFICATION: ("accuracy", "f1Macro"),
    # Share of the tokens that the model finds most likely of all; e to the mean cross entropy of a token.
    Task.LANGUAGE_MODELING: ("tokenAccuracy", "perplexity"),
    # Of sacreBLEU, 0 to 1: character n-grams and words that translation and reference share.
    Task.TRANSLATION: ("chrf", "bleu"),
    # Over all items, those that were given left out (cycle_server.ranking).
    Task.RECOMMENDATION: ("recallAt10", "ndcgAt10"),
}
LOWER_IS_BETTER = frozenset({"perplexity"})


def higher_is_better(metric: str) -> bool:
    return metric not in LOWER_IS_BETTER


def evaluation_of(task: Task, evaluation: Evaluation) -> Evaluation:
    """The evaluation with the task's metrics where it names none."""
    return evaluation if evaluation.metrics else evaluation.model_copy(update={"metrics": list(METRICS[task])})
