"""What a teacher's feature maps add to a training."""

from pathlib import Path

import lightning as L
import pytest
import torch
from safetensors.torch import save_file

from refinecam.core.errors import InputError
from refinecam.data import FunnyBirdsDataModule, ShapesDataModule
from refinecam.models import Classifier, create_backbone, load_network
from refinecam.models.hints import Hints, stage_maps
from tests.conftest import BACKBONES, SIZE, TinyNet


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Weights of a ResNet18, untrained, as a file."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    about = {"backbone": "resnet18", "num_classes": "6", "image_size": "", "normalize": "True"}
    save_file(create_backbone("resnet18", pretrained=False, num_classes=6).state_dict(), path, about)
    return str(path)


def fitted(teacher, steps=6, ckpt_path=None):
    """A small ConvNeXt after some steps, and what they logged."""
    logged = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            values = {
                name: value.item() for name, value in trainer.callback_metrics.items() if name != "train/accuracy"
            }
            logged.append({**values, "all": outputs["loss"].item(), "progress": pl_module.progress})

    L.seed_everything(0)
    model = Classifier("convnext_atto", pretrained=False, teacher=teacher, learning_rate=1e-3)
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=[Watch()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        log_every_n_steps=1,
    )
    sizes = {"train_size": 24, "batch_size": 4, "scenes": 2, "held_out_scenes": 2}
    data = ShapesDataModule("convnext_atto", image_size=64, imputed=0, **sizes)
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
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
        for regressor, student_map, teacher_map in zip(hints.regressors, maps, wanted, strict=True):
            for told, channel in zip(regressor(student_map).unbind(1), teacher_map.unbind(1), strict=True):
                scaled = (channel - channel.mean()) / (channel.var(correction=0) + 1e-5).sqrt()
                expected += (told - scaled).square().mean() / teacher_map.shape[1]
                silent += scaled.square().mean() / teacher_map.shape[1]
        torch.testing.assert_close(hints(batch, maps), expected)
        for regressor in hints.regressors:
            torch.nn.init.zeros_(regressor[1].weight)
            torch.nn.init.zeros_(regressor[1].bias)
        torch.testing.assert_close(hints(batch, maps), silent)
        assert 0 < silent <= 4


def test_the_teacher_is_neither_trained_nor_saved(teacher):
    model, _ = fitted(teacher)
    (network,) = model.hints._teacher
    for name, value in load_network(teacher).state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert not network.training
    assert {name.split(".")[0] for name in model.state_dict()} == {"network", "hints"}
    assert {name.split(".")[1] for name in model.state_dict() if name.startswith("hints")} == {"regressors"}
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
        (
            "shapes-resnet18",
            "vit_tiny_patch16_224",
            r"teacher: it takes images of mean .*0\.485.*, the backbone of .*0\.5",
        ),
        (
            "shapes-resnet18",
            "vit_base_patch14_dinov2",
            r"teacher: its stages have strides \[4, 8, 16, 32\], .*'s \[14\]",
        ),
    ],
)
def test_what_cannot_teach_is_refused(teacher, student, message):
    with pytest.raises(InputError, match=message):
        Classifier(student, pretrained=False, teacher=teacher)


def test_maps_of_other_sizes_are_averaged(teacher):
    """A side of 40 px is 2.5 strides of 16: a ConvNeXt's map has 2 places, a ResNet's 3."""
    network, weights = create_backbone("convnext_tiny", False, 6).eval(), load_network(teacher)
    hints, images = Hints(weights, network), torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = stage_maps(network, images, hints.student_stages)[1]
        wanted = stage_maps(weights, images, hints.teacher_stages)[1]
        assert [found.shape[-1] for found in maps] == [10, 5, 2, 1]
        assert [found.shape[-1] for found in wanted] == [10, 5, 3, 2]
        middle = wanted[2]
        wanted[2] = torch.stack([middle[..., r : r + 2, c : c + 2].mean((2, 3)) for r in (0, 1) for c in (0, 1)], -1)
        wanted[3] = wanted[3].mean((2, 3))
        expected = 0.0
        for regressor, student_map, teacher_map in zip(hints.regressors, maps, wanted, strict=True):
            rows = teacher_map.flatten(2).transpose(0, 1).flatten(1) if teacher_map.ndim > 2 else teacher_map.T
            scaled = (rows - rows.mean(1, keepdim=True)) / (rows.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
            expected += (regressor(student_map).flatten(2).transpose(0, 1).flatten(1) - scaled).square().mean()
        torch.testing.assert_close(hints(images, maps), expected)


def test_the_target_of_a_single_value_is_0(teacher):
    """A batch of one view of 32 px has one value of each deepest channel."""
    network = create_backbone("convnext_tiny", False, 6).eval()
    hints, image = Hints(load_network(teacher), network), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        maps = stage_maps(network, image, hints.student_stages)[1]
        told = hints.regressors[3](maps[3]).square().mean()
        hints.regressors = hints.regressors[3:]
        hints.teacher_stages = hints.teacher_stages[3:]
        torch.testing.assert_close(hints(image, maps[3:]), told)


def test_a_checkpoint_needs_no_teacher(teacher, tmp_path):
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(Path(teacher).read_bytes())
    model, _ = fitted(str(path))
    model.trainer.save_checkpoint(tmp_path / "last.ckpt")
    path.unlink()
    found = Classifier.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert found.hints is None
    for name, value in load_network(tmp_path / "last.ckpt").state_dict().items():
        assert torch.equal(value, model.network.state_dict()[name])
        assert torch.equal(value, found.network.state_dict()[name])


def test_going_on_with_the_same_teacher(teacher, tmp_path):
    first, _ = fitted(teacher)
    first.trainer.save_checkpoint(tmp_path / "last.ckpt")
    _, logged = fitted(teacher, steps=8, ckpt_path=tmp_path / "last.ckpt")
    assert [step["progress"] for step in logged] == pytest.approx([6 / 8, 7 / 8])


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ("resnet18", None, "ckpt_path: that training had a teacher, here it is None; give the same teacher"),
        (None, "resnet18", "ckpt_path: that training had no teacher, here it is .*teacher"),
        ("other", "resnet18", "ckpt_path: that training had another teacher, here it is .*teacher"),
    ],
)
def test_going_on_with_another_teacher_is_refused(teacher, tmp_path, before, now, message):
    about = {"backbone": "convnext_atto", "num_classes": "6", "image_size": "", "normalize": "True"}
    save_file(create_backbone("convnext_atto", False, 6).state_dict(), tmp_path / "other.safetensors", about)
    files = {"resnet18": teacher, "other": str(tmp_path / "other.safetensors"), None: None}
    first, _ = fitted(files[before], steps=1)
    first.trainer.save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=message):
        fitted(files[now], ckpt_path=tmp_path / "last.ckpt")


def test_a_teacher_that_saw_other_colors_is_refused(tmp_path, birds):
    model = Classifier("resnet18", pretrained=False, num_classes=12, teacher="shapes-resnet18")
    trainer = L.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    data = FunnyBirdsDataModule("resnet18", folder=str(birds), batch_size=2, image_size=64)
    with pytest.raises(
        InputError, match=r"teacher: shapes-resnet18 was trained on normalized images, which .*normalize true"
    ):
        trainer.fit(model, data)


def test_a_swin_teaches_at_any_size(tmp_path):
    about = {"backbone": "swin_tiny_patch4_window7_224", "num_classes": "6", "image_size": "", "normalize": "True"}
    save_file(create_backbone(about["backbone"], False, 6).state_dict(), tmp_path / "swin.safetensors", about)
    model = Classifier("resnet18", pretrained=False, teacher=str(tmp_path / "swin.safetensors"))
    images = torch.randn(2, 3, 112, 112)
    _, maps = model._forward_with_maps(images)
    assert model.hints(images, maps).isfinite()


def test_a_network_without_stages_is_refused(teacher):
    with pytest.raises(InputError, match="teacher: timm does not name the stages of a TinyNet; leave out"):
        Hints(load_network(teacher), TinyNet())
