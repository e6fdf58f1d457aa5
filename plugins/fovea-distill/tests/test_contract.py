"""The rules that every SSL objective keeps."""

from tiny import SETTINGS


def test_contract(contract):
    contract("ssl_objective", "distill", **SETTINGS)
