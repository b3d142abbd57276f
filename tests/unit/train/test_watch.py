from __future__ import annotations

from qatspec.spec import Trainer
from qatspec.spec.model import EarlyStop
from qatspec.train.watch import Watch


def watch(early_stop: EarlyStop | None) -> Watch:
    return Watch(Trainer(epochs=1, early_stop=early_stop))


def test_training_ends_after_so_many_evaluations_without_an_improvement():
    watched = watch(EarlyStop(patience=2, min_delta=1.0))
    ended = []
    for metric in (10.0, 9.0, 11.5, 12.0, 12.5):
        watched.see(metric)
        ended.append(watched.ended)
        again = watch(EarlyStop(patience=2, min_delta=1.0))
        again.load_state_dict(watched.state_dict())
        watched = again
    assert ended == [False, False, False, False, True]


def test_nothing_is_watched_by_default():
    watched = watch(None)
    for _ in range(9):
        watched.see(0.0)
    assert (watched.ended, watched.state_dict()) == (False, {})
