import lightning as L
import pytest
import timm
import torch
from safetensors.torch import save_file

from refinecam.data import CropStage, ShapesDataModule
from refinecam.models import Classifier, checkpoints, create_backbone, export, load_network, read_weights
from tests.conftest import BACKBONES, SIZE


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as Lightning writes it."""
    torch.manual_seed(3)
    model = Classifier("resnet18", num_classes=6, pretrained=False)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    path = tmp_path_factory.mktemp("weights") / "best.ckpt"
    trainer.save_checkpoint(path)
    return path, model


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_give_logits(name, backbones):
    assert backbones[name](torch.zeros(2, 3, SIZE, SIZE)).shape == (2, 6)


@pytest.mark.parametrize("name", BACKBONES)
def test_own_input_size(name):
    network = create_backbone(name, pretrained=False, num_classes=3)
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 3)


def test_unknown_backbone():
    with pytest.raises(ValueError, match="timm has no model named 'resnet81'; close to it: resnet18"):
        create_backbone("resnet81")


def test_weights_that_cannot_be_fetched(monkeypatch, tmp_path):
    """The hub is off in tests, see conftest.py, and its cache is empty here."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"weights of 'resnet18' could not be fetched .*pretrained false"):
        create_backbone("resnet18", pretrained=True)


def test_no_weights_to_fetch():
    with pytest.raises(ValueError, match="timm has no weights for"):
        create_backbone(next(n for n in timm.list_models() if not timm.models.get_pretrained_cfg(n).has_weights))


def test_weights_of_a_training_from_python_load(tmp_path):
    """Nothing but plain values and tensors goes into a checkpoint."""
    data = ShapesDataModule(
        image_size=48,
        train_size=8,
        val_size=6,
        batch_size=4,
        scenes=4,
        held_out_scenes=2,
        curriculum=[CropStage(24, share=0.5)],
    )
    model = Classifier("resnet18", pretrained=False, image_size=48)
    trainer = L.Trainer(
        max_epochs=2,
        reload_dataloaders_every_n_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        gradient_clip_val=1.0,
        precision="bf16-mixed",
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    path = trainer.checkpoint_callback.best_model_path
    network = load_network(path, "resnet18", image_size=48)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), model.network.parameters(), strict=True))
    assert read_weights(path).image_size == 48
    assert load_network("shapes-resnet18", image_size=224).num_classes == 6
    with pytest.raises(ValueError, match=r"was trained at 48 px, not at 64 px; use image_size 48"):
        load_network(path, "resnet18", image_size=64)


def test_checkpoint_round_trip(checkpoint):
    path, model = checkpoint
    network = load_network(path, "resnet18")
    x = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(network(x), model.eval()(x))
    assert not network.training


@pytest.mark.parametrize("size", [None, 64])
def test_weights_of_a_network_that_timm_does_not_know(tmp_path, size):
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.zeros(1)}, path, {"backbone": "resnet81", "num_classes": "6", "image_size": ""})
    with pytest.raises(ValueError, match="timm has no model named 'resnet81'"):
        load_network(path, image_size=size)


def test_exported_weights_are_loaded_by_path_and_by_name(checkpoint, tmp_path, monkeypatch):
    path, model = checkpoint
    small = tmp_path / "shapes-test.safetensors"
    monkeypatch.setattr("sys.argv", ["export", str(path), str(small)])
    export.main()
    assert small.stat().st_size < 0.55 * sum(p.numel() * 4 for p in model.parameters())
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path)
    x = torch.randn(2, 3, SIZE, SIZE)
    for name in (small, "shapes-test"):
        network = load_network(name)
        torch.testing.assert_close(network(x), model.eval()(x), atol=2e-3, rtol=0)
    assert read_weights("shapes-test", "resnet18")[:3] == ("resnet18", 6, None)
    started = Classifier("resnet18", checkpoint="shapes-test")
    torch.testing.assert_close(started.network.conv1.weight, network.conv1.weight)
    assert started.network.training
    with pytest.raises(
        ValueError, match=r"no file shapes-test2; .* of the project: shapes-test, imagenet-efficientnet_lite0"
    ):
        load_network("shapes-test2")
    small.write_bytes(small.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"shapes-test.safetensors cannot be read as weights"):
        load_network("shapes-test")
    for about in (None, {"backbone": "resnet18", "num_classes": "six", "image_size": ""}):
        save_file({"conv1.weight": torch.zeros(3)}, small, about)
        with pytest.raises(ValueError, match="does not say what network it is of"):
            load_network("shapes-test")


def test_export_refuses_another_kind_of_file(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["export", "best.ckpt", "best.pt"])
    with pytest.raises(SystemExit):
        export.main()
    assert "expected a name that ends with .safetensors, got best.pt" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["export", "nowhere.ckpt", "best.safetensors"])
    with pytest.raises(SystemExit, match=r"error: checkpoint: there is no file nowhere.ckpt"):
        export.main()


@pytest.mark.parametrize(
    ("name", "size"), [("vgg11", 48), ("resnet18", 48), (BACKBONES[2], 112), ("convnext_tiny", 64)]
)
def test_networks_of_whole_images_take_crops(name, size):
    network = create_backbone(name, pretrained=False, num_classes=6, any_size=True)
    network(torch.randn(2, 3, size, size)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_swin_of_one_size_equals_swin_of_any_size():
    network = create_backbone(BACKBONES[2], pretrained=False, num_classes=6, any_size=True).eval()
    own = create_backbone(BACKBONES[2], pretrained=False, num_classes=6).eval()
    own.load_state_dict(network.state_dict())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network(x), own(x), atol=1e-5, rtol=1e-4)
    with pytest.raises(AssertionError, match="Input height"):
        own(torch.randn(1, 3, 112, 112))


def test_a_checkpoint_needs_no_other_weights(checkpoint):
    """Neither ImageNet's nor those that the training started from."""
    assert Classifier.load_from_checkpoint(checkpoint[0], weights_only=True).hparams["pretrained"] is False
    content = torch.load(checkpoint[0], weights_only=True)
    assert content["hyper_parameters"]["checkpoint"] is None


@pytest.mark.parametrize(
    ("option", "value"),
    [("learning_rate", -1.0), ("weight_decay", float("nan")), ("label_smoothing", 2.0), ("warmup", -1.0)],
)
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=f"{option}: expected a number from 0"):
        Classifier(pretrained=False, **{option: value})


def test_wrong_checkpoints(checkpoint, tmp_path):
    path, _ = checkpoint
    with pytest.raises(ValueError, match=r"holds a 'resnet18', not a 'vgg11'; use backbone resnet18"):
        load_network(path, "vgg11")
    with pytest.raises(ValueError, match="there is no file"):
        load_network(tmp_path / "none.ckpt", "resnet18")
    (tmp_path / "text.ckpt").write_text("not weights")
    with pytest.raises(ValueError, match=r"text.ckpt cannot be read as weights"):
        load_network(tmp_path / "text.ckpt", "resnet18")
    (tmp_path / "hello.ckpt").write_text("hello")
    with pytest.raises(ValueError, match=r"hello.ckpt cannot be read as weights"):
        load_network(tmp_path / "hello.ckpt", "resnet18")
    (tmp_path / "cut.ckpt").write_bytes(path.read_bytes()[:10000])
    with pytest.raises(ValueError, match=r"cut.ckpt cannot be read as weights"):
        load_network(tmp_path / "cut.ckpt", "resnet18")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other.ckpt has no layer with weights for classes"):
        load_network(tmp_path / "other.ckpt", "resnet18")
    content = torch.load(path)
    content["hyper_parameters"]["num_classes"] = None
    torch.save(content, tmp_path / "classes.ckpt")
    assert load_network(tmp_path / "classes.ckpt", "resnet18").num_classes == 6  # read off the head
    content["hyper_parameters"]["num_classes"] = 9
    torch.save(content, tmp_path / "classes.ckpt")
    with pytest.raises(ValueError, match=r"classes.ckpt does not fit 'resnet18': size mismatch"):
        load_network(tmp_path / "classes.ckpt", "resnet18")
