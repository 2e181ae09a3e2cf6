"""The LightningModule that trains: its schedule, precision, start and compiled network."""

import copy

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Timer
from safetensors.torch import save_file
from torch import nn

from refinecam.core.errors import InputError
from refinecam.data import CropStage, FunnyBirdsDataModule, ShapesDataModule
from refinecam.models import Classifier, create_backbone
from refinecam.models.backbones import DIRECTIONS


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        ("cosine", 0.05, 0.5),
        ("cosine", 0.1, 1.0),
        ("cosine", 0.55, 0.5),
        ("cosine", 1.0, 0.0),
        ("constant", 0.9, 1.0),
    ],
)
def test_schedule(schedule, progress, expected):
    model = Classifier("resnet18", pretrained=False, schedule=schedule, warmup=0.1)
    model.progress = progress
    assert model._rate() == pytest.approx(expected)


def test_a_schedule_of_nothing_but_warmup():
    model = Classifier("resnet18", pretrained=False, schedule="cosine", warmup=1.0)
    rates = []
    for model.progress in (0.5, 1.0):
        rates.append(model._rate())
    assert rates == [0.5, 1.0]


def test_weights_of_other_classes_or_colors_are_no_start(tmp_path, birds):
    with pytest.raises(InputError, match=r"shapes-resnet18.safetensors .*6 classes.*12"):
        Classifier("resnet18", num_classes=12, checkpoint="shapes-resnet18")
    path = tmp_path / "weights.safetensors"
    about = {"backbone": "resnet18", "num_classes": "12", "image_size": "", "normalize": "True"}
    save_file(create_backbone("resnet18", False, 12).state_dict(), path, about)
    model = Classifier("resnet18", num_classes=12, checkpoint=str(path))
    trainer = L.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    data = FunnyBirdsDataModule("resnet18", folder=str(birds), batch_size=2, image_size=64)
    with pytest.raises(InputError, match=r"weights.safetensors was trained on normalized images.*normalize tr"):
        trainer.fit(model, data)


@pytest.mark.parametrize("limit", [{"max_epochs": 2}, {"max_steps": 4}, {"max_time": "00:00:00:08"}], ids=str)
def test_the_schedule_ends_with_the_training(limit, monkeypatch):
    shares = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            shares.append(pl_module.progress)

    trainer = L.Trainer(
        **{"max_epochs": -1, **limit},
        accelerator="cpu",
        callbacks=[Watch()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    monkeypatch.setattr(Timer, "time_elapsed", lambda self, stage=None: 2.0 * trainer.global_step)  # 2 seconds a step
    data = ShapesDataModule("resnet18", image_size=128, train_size=4, batch_size=2, scenes=2, held_out_scenes=2)
    trainer.fit(Classifier("resnet18", pretrained=False), data)
    assert shares == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_training_in_another_precision(precision):
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_steps=1, limit_val_batches=0, precision=precision, **options)
    data = ShapesDataModule("resnet18", image_size=128, train_size=2, batch_size=2, scenes=2, held_out_scenes=2)
    trainer.fit(Classifier("resnet18", pretrained=False), data)
    assert trainer.global_step == 1


def test_layer_scales_are_open_where_no_weights_are_given(tmp_path):
    def scales(network):
        return torch.stack([value.mean() for name, value in network.named_parameters() if name.endswith("gamma")])

    fresh = Classifier("convnext_tiny", pretrained=False).network
    assert scales(fresh).eq(1).all()
    closed = create_backbone("convnext_tiny", pretrained=False, num_classes=6)
    assert torch.allclose(scales(closed), torch.tensor(1e-6))
    path = tmp_path / "weights.safetensors"
    save_file(
        closed.state_dict(),
        path,
        {"backbone": "convnext_tiny", "num_classes": "6", "image_size": "", "normalize": "True"},
    )
    assert torch.equal(scales(Classifier("convnext_tiny", checkpoint=str(path)).network), scales(closed))


def test_heads_of_a_swin_look_around_where_no_weights_are_given():
    name = "swin_tiny_patch4_window7_224"
    network = Classifier(name, pretrained=False).network
    index = torch.stack(torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")).flatten(1)
    seen = []
    for stage in network.layers:
        for block in stage.blocks:
            attention = block.attn
            look = attention.relative_position_bias_table[attention.relative_position_index[24]].softmax(0)
            shift = index[:, look.argmax(0)] - index[:, 24:25]  # of the middle's look, by head
            assert shift.abs().amax(0).ge(1).all()
            assert shift.abs().max() <= 3
            assert look.amax(0).lt(0.6).all()  # none at one place alone
            seen += [tuple(place) for place in shift.T.tolist()]
    assert tuple(seen[:8]) == DIRECTIONS
    assert {(3 * y, 3 * x) for y, x in DIRECTIONS} < set(seen)

    def spreads(swin):
        return [layer.weight.std().item() for layer in swin.layers[0].modules() if isinstance(layer, nn.Linear)]

    assert min(spreads(network)) > 2 * max(spreads(create_backbone(name, False, 6)))


def trained_briefly(compile, learning_rate=1e-4, teacher=None):
    """After two steps on views of each of two sizes."""
    L.seed_everything(0)
    curriculum = [CropStage(32, 0.4), CropStage(40, 0.4)]
    options = {"compile": compile, "learning_rate": learning_rate, "teacher": teacher}
    model = Classifier("resnet18", pretrained=False, **options)
    sizes = {"train_size": 16, "batch_size": 8, "val_size": 2, "scenes": 2, "held_out_scenes": 2}
    data = ShapesDataModule("resnet18", curriculum=curriculum, **sizes)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=1,
    )
    trainer.fit(model, data)
    return model


@pytest.mark.parametrize("teacher", [None, "shapes-resnet18"])
def test_compiled_training_runs_a_graph_for_each_size_and_gives_the_same_weights(monkeypatch, teacher):
    graphs = []

    def backend(graph, example_inputs):
        graphs.append([value for value in example_inputs if value.ndim == 4 and value.shape[1] == 3])
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: real(function, backend=backend, **options))
    expected, found = (trained_briefly(compile, teacher=teacher) for compile in (False, True))
    sizes = [value.shape[-1] for graph in graphs for value in graph if len(value) == 8]
    assert {32, 40} <= set(sizes)
    assert found._compiled is not None
    assert copy.deepcopy(found)._compiled is None
    assert expected.state_dict().keys() == found.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.slow
def test_compiled_training_works():
    # Adam's steps follow a gradient's sign, so what rounds differently drifts apart: compare what steps are made of.
    expected, found = (trained_briefly(compile, learning_rate=1e-12) for compile in (False, True))
    averages = [list(model.trainer.optimizers[0].state.values()) for model in (expected, found)]
    compared = [(a["exp_avg"], b["exp_avg"]) for a, b in zip(*averages, strict=True)]
    compared += zip(expected.network.buffers(), found.network.buffers(), strict=True)
    for wanted, got in compared:
        error, size = ((got - wanted).float().norm().item(), wanted.float().norm().item())
        assert error <= 0.05 * max(size, 1e-6)  # normalized over 8 values, rounding grows; a wrong graph is off by 1


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match="compile: it needs a C"):
        trained_briefly(compile=True)
