"""What a teacher's feature maps add to a training."""

import lightning as L
import pytest
import torch
from safetensors.torch import save_file

from refinecam.data import ShapesDataModule
from refinecam.errors import InputError
from refinecam.models import Classifier, create_backbone, load_network
from refinecam.models.hints import Hints, stage_maps
from tests.conftest import BACKBONES, SIZE, TinyNet


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Weights of a ResNet18, untrained, as a file."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    about = {"backbone": "resnet18", "num_classes": "6", "image_size": "", "normalise": "True"}
    save_file(create_backbone("resnet18", pretrained=False, num_classes=6).state_dict(), path, about)
    return str(path)


def fitted(teacher, **options):
    """A ConvNeXt after some steps on views that its shapes fill, and what they logged."""
    logged = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            values = {
                name: value.item() for name, value in trainer.callback_metrics.items() if name != "train/accuracy"
            }
            logged.append({**values, "all": outputs["loss"].item(), "progress": pl_module.progress})

    L.seed_everything(0)
    model = Classifier("convnext_tiny", pretrained=False, teacher=teacher, learning_rate=1e-3, **options)
    trainer = L.Trainer(
        max_steps=6,
        accelerator="cpu",
        logger=False,
        callbacks=[Watch()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        log_every_n_steps=1,
    )
    data = ShapesDataModule("convnext_tiny", image_size=128, train_size=24, batch_size=4, scenes=2, imputed=0)
    trainer.fit(model, data)
    return model, logged


@pytest.mark.parametrize("name", BACKBONES)
def test_the_stages_of_each_backbone_and_its_logits(backbones, batch, teacher, name):
    network, weights = backbones[name], load_network(teacher)
    hints = Hints(weights, network)
    with torch.no_grad():
        features, maps = stage_maps(network, batch, hints.student_stages)
        wanted = stage_maps(weights, batch, hints.teacher_stages)[1]
        torch.testing.assert_close(network.forward_head(features), network(batch))
        assert [SIZE // found.shape[-1] for found in maps] == [4, 8, 16, 32]
        assert [found.shape[-2:] for found in maps] == [found.shape[-2:] for found in wanted]
        expected = silent = 0.0  # the definition, channel by channel
        for tell, mine, theirs in zip(hints.tell, maps, wanted, strict=True):
            for told, channel in zip(tell(mine).unbind(1), theirs.unbind(1), strict=True):
                scaled = (channel - channel.mean()) / (channel.var(correction=0) + 1e-5).sqrt()
                expected += (told - scaled).square().mean() / theirs.shape[1]
                silent += scaled.square().mean() / theirs.shape[1]
        torch.testing.assert_close(hints(batch, maps), expected)
        for tell in hints.tell:
            torch.nn.init.zeros_(tell[1].weight)
            torch.nn.init.zeros_(tell[1].bias)
        torch.testing.assert_close(hints(batch, maps), silent)
        assert 0 < silent <= 4


def test_the_teacher_is_neither_trained_nor_saved(teacher):
    model, _ = fitted(teacher)
    (network,) = model.hints._teacher
    for name, value in load_network(teacher).state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert not network.training
    assert {name.split(".")[0] for name in model.state_dict()} == {"network", "hints"}
    assert {name.split(".")[1] for name in model.state_dict() if name.startswith("hints")} == {"tell"}
    model.double()
    assert next(network.parameters()).dtype == torch.float64


def test_hints_are_learnt_and_count_less_and_less(teacher):
    _, logged = fitted(teacher)
    assert [step["progress"] for step in logged] == pytest.approx([i / 6 for i in range(6)])
    for step in logged:
        assert step["all"] == pytest.approx(step["train/loss"] + (1 - step["progress"]) * step["train/hints"], rel=1e-4)
    assert logged[-1]["train/hints"] < logged[0]["train/hints"]
    assert "train/hints" not in fitted(None)[1][0]


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        ("nobody", "resnet18", "teacher: there is no file nobody"),
        ("shapes-resnet18", "vit_tiny_patch16_224", "teacher: .* normalised differently"),
    ],
)
def test_what_cannot_teach_is_refused(teacher, student, message):
    with pytest.raises(InputError, match=message):
        Classifier(student, pretrained=False, teacher=teacher)


def test_a_network_without_stages_is_refused(teacher):
    with pytest.raises(InputError, match="teacher: timm does not name the stages of a TinyNet; leave out"):
        Hints(load_network(teacher), TinyNet())
