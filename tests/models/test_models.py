import lightning as L
import pytest
import timm
import torch

from refinecam.data import CropStage, ShapesDataModule
from refinecam.models import Classifier, create_backbone, load_network
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
    """The network is off in tests: HF_HUB_OFFLINE is set and the cache is empty."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("timm.create_model", _offline)
    with pytest.raises(ValueError, match=r"weights of 'resnet18' could not be fetched .*--model.pretrained false"):
        create_backbone("resnet18", pretrained=True)


def _offline(*args, **kwargs):
    raise ConnectionError("no route to host")


def test_no_weights_to_fetch():
    with pytest.raises(ValueError, match="timm has no weights for"):
        create_backbone(next(n for n in timm.list_models() if not timm.models.get_pretrained_cfg(n).has_weights))


def test_weights_of_a_training_from_python_load(tmp_path):
    """Nothing but plain values and tensors goes into a checkpoint."""
    data = ShapesDataModule(
        image_size=48, train_size=8, val_size=6, batch_size=4, scenes=4, curriculum=[CropStage(24, epochs=1)]
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
    with pytest.raises(ValueError, match="was trained at 48 px, not at the backbone's own size"):
        load_network(path, "resnet18")


def test_checkpoint_round_trip(checkpoint):
    path, model = checkpoint
    network = load_network(path, "resnet18")
    x = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(network(x), model.eval()(x))
    assert not network.training


def test_wrong_checkpoints(checkpoint, tmp_path):
    path, _ = checkpoint
    with pytest.raises(ValueError, match=r"holds a 'resnet18', not a 'vgg11'; use --model.backbone resnet18"):
        load_network(path, "vgg11")
    with pytest.raises(ValueError, match="there is no file"):
        load_network(tmp_path / "none.ckpt", "resnet18")
    (tmp_path / "text.ckpt").write_text("not weights")
    with pytest.raises(ValueError, match=r"text.ckpt cannot be read as weights"):
        load_network(tmp_path / "text.ckpt", "resnet18")
    (tmp_path / "cut.ckpt").write_bytes(path.read_bytes()[:10000])
    with pytest.raises(ValueError, match=r"cut.ckpt cannot be read as weights"):
        load_network(tmp_path / "cut.ckpt", "resnet18")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other.ckpt was not written by train.py"):
        load_network(tmp_path / "other.ckpt", "resnet18")
    content = torch.load(path)
    content["hyper_parameters"]["num_classes"] = 9
    torch.save(content, tmp_path / "classes.ckpt")
    with pytest.raises(ValueError, match=r"classes.ckpt does not fit 'resnet18': size mismatch"):
        load_network(tmp_path / "classes.ckpt", "resnet18")


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
