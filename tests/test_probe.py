from .adapters import run_linear
def test_x():
    assert run_linear
