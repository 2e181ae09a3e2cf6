"""The benchmarks run; what they print is not judged here."""

from tests.benchmarks import attribution, evaluation, gpu, imputation, scores, training


def test_training_benchmark(monkeypatch, capsys):
    monkeypatch.setattr(training, "EPOCHS", 2)
    monkeypatch.setattr("sys.argv", ["training", "--sizes", "32", "--steps", "2", "--batch_size", "4"])
    training.main()
    assert "resnet18, 32 px: " in capsys.readouterr().out


def test_attribution_benchmark(monkeypatch, capsys):
    options = {"--size": 64, "--images": 2, "--masked": 1, "--samples": 12, "--repeats": 1}
    monkeypatch.setattr("sys.argv", ["attribution", *(str(part) for pair in options.items() for part in pair)])
    attribution.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if "x |" in line]
    assert len(rows) == 5
    assert all(float(row.split("|")[-2]) < 1e-4 for row in rows)


def test_imputation_benchmark(monkeypatch, capsys):
    options = ["--exact", "24", "--iterations", "24", "32", "--side", "32"]
    monkeypatch.setattr("sys.argv", ["imputation", *options])
    imputation.main()
    assert capsys.readouterr().out.count("| blob |") == 3


def test_scores_benchmark(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["scores", "--images", "1", "--sizes", "64", "--repeats", "1"])
    scores.main()
    printed = capsys.readouterr().out
    assert "| ARCC of RefineCAM(GradCAM++), stage 0, product |" in printed
    assert "| 64 px |" in printed


def test_gpu_benchmark(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "NETWORKS", ("shapes-resnet18",))
    monkeypatch.setattr("sys.argv", ["gpu", "--batches", "1", "2", "--size", "64", "--only-scores"])
    gpu.main()
    printed = capsys.readouterr().out
    assert printed.count("| shapes-resnet18 | ") == 6
    assert "x as fast" in printed
    assert "waits: " in printed


def test_evaluation_benchmark(monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "seconds", lambda images, processes: images / processes)
    options = ["--images", "1", "2", "--batches", "10", "--each", "1", "--methods", "GradCAM, LIME(samples=4)"]
    monkeypatch.setattr("sys.argv", ["evaluation", *options])
    evaluation.main()
    printed = capsys.readouterr().out
    assert "times as fast" in printed
    assert "10 batches: " in printed
    assert "| GradCAM, stage -1 |" in printed
