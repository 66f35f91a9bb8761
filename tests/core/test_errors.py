"""Errors of a configuration."""

import pickle

from vla_mbpo.core.errors import ConfigError


def test_an_error_comes_out_of_a_worker_process_as_it_was():
    """Incident: it could not be unpickled, and a pool whose worker raised it never ended."""
    error = pickle.loads(pickle.dumps(ConfigError("bundle", "sft_few", "its files")))
    assert (error.field, error.value, error.valid) == ("bundle", "sft_few", "its files")
    assert str(error) == "bundle: 'sft_few' is not valid; its files"
