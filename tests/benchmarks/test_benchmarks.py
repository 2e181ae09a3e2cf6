"""The benchmarks run; what they print is not judged here."""

from tests.benchmarks import training


def test_training_benchmark(monkeypatch, capsys):
    monkeypatch.setattr(training, "ROUNDS", 1)
    monkeypatch.setattr("sys.argv", ["training", "--sizes", "32", "--steps", "2", "--batch_size", "4"])
    training.main()
    assert "resnet18, 32 px: " in capsys.readouterr().out
