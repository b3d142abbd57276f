"""Spellings and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler

HANDLERS = (
    handler(
        "recurrent",
        "recurrent",
        "each step of a sequence, from the one before it",
        {
            "rnn": "nn:RNN",
            "lstm": "nn:LSTM",
            "gru": "nn:GRU",
            "rnn_cell": "nn:RNNCell",
            "lstm_cell": "nn:LSTMCell",
            "gru_cell": "nn:GRUCell",
        },
        lower=None,
    ),
)
