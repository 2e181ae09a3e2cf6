"""The benchmarks run; what they print is not judged here."""

from tests.benchmarks import attribution, training


def test_training_benchmark(monkeypatch, capsys):
    monkeypatch.setattr(training, "ROUNDS", 1)
    monkeypatch.setattr("sys.argv", ["training", "--sizes", "32", "--steps", "2", "--batch_size", "4"])
    training.main()
    assert "resnet18, 32 px: " in capsys.readouterr().out


def test_attribution_benchmark(monkeypatch, capsys):
    options = {"--size": 64, "--images": 2, "--masked": 1, "--samples": 12, "--repeats": 1}
    monkeypatch.setattr("sys.argv", ["attribution", *(str(part) for pair in options.items() for part in pair)])
    attribution.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("e-07 |") or "x |" in line]
    assert len(rows) == 5
    assert all(float(row.split("|")[-2]) < 1e-4 for row in rows)
