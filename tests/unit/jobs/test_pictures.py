"""Sets of pictures, prepared from files that a web server and an object store on this machine hold."""

import io
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network

import psutil
import pytest
from PIL import Image

from running_server import wait_for
from s3_server import S3Server
from stored_jobs import job_spec, optimization
from tunesmith.access.caller import LOCAL
from tunesmith.access.secrets import open_secrets
from tunesmith.assets.content import ContentUse
from tunesmith.assets.encoded_cache import EncodedCache
from tunesmith.assets.files import Files
from tunesmith.assets.models import BaseModels
from tunesmith.assets.row_cache import RowCache
from tunesmith.data.picture_set import PictureSet
from tunesmith.jobs.admission import Admission, Admitted
from tunesmith.jobs.fetching import Fetcher
from tunesmith.jobs.gathering import PictureGatherer
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.pictures import collecting, decoder, transforming, verifying
from tunesmith.jobs.pictures.captioning import Captioner
from tunesmith.jobs.pictures.collecting import Collector
from tunesmith.jobs.pictures.preparing import Pictures
from tunesmith.jobs.preparing import Preparer
from tunesmith.jobs.service import Jobs
from tunesmith.jobs.submitting import accept
from tunesmith.plugins import load_plugins
from tunesmith.sources import Limits
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec.errors import FileNotFoundInStoreError, InvalidRequestError, UnsupportedError
from tunesmith.spec.job import DataSource, DataSpec, ImagesSpec, Submission
from tunesmith.spec.lifecycle import State
from tunesmith.storage import Storage
from tunesmith.store.database import Database
from tunesmith.store.jobs import Job
from web_server import WebServer, reply, serve_file

LIMITS = Limits(max_bytes=100_000_000, retry_seconds=0.01, allowed_networks=(ip_network("127.0.0.0/8"),))


@dataclass
class Gallery:
    """A preparer with true sources, whose check in a worker finds everything fine."""

    database: Database
    jobs: Jobs
    preparer: Preparer
    make_preparer: Callable[[], Preparer]
    pictures: Pictures
    web: WebServer
    storage: Storage
    folder: object
    secrets: object
    runner: object

    def serve(self, **contents):
        """Put files on the web server, by name with `_` for the dot; returns their addresses."""
        return [self.put(name.replace("_", "."), content) for name, content in contents.items()]

    def put(self, name, content):
        self.web.answers[f"/{name}"] = serve_file(content, ETag='"1"')
        return f"{self.web.url}/{name}"

    def spec(self, sources, secret=None, **images):
        given = {
            "trigger_word": "sks", "captioning": "trigger_only", "resolution": (512,), "sources": tuple(sources),
        } | images  # fmt: skip
        data = DataSpec(
            train=DataSource(kind="images", id="source_images", sha256=None, secret=secret),
            validation=None, max_length=64, over_long="drop", packing=False, max_samples=None,
            images=ImagesSpec(**given),
        )  # fmt: skip
        return job_spec(data=data, optimization=optimization())

    def submit(self, sources, secret=None, **images) -> Job:
        admitted = Admitted(spec=self.spec(sources, secret, **images), is_complete=False, notes=())
        with self.database.write() as connection:
            return accept(connection, LOCAL, admitted, Submission(dialect="native", request={}))

    def begun(self, sources, **images):
        job = self.submit(sources, **images)
        self.preparer.tick()
        return job

    def prepared(self, sources, secret=None, **images):
        job = self.submit(sources, secret, **images)
        self.preparer.tick()
        return self.ended(job)

    def ended(self, job):
        return wait_for(lambda: (now := self.jobs.get(job.id)).state is not State.VALIDATING and now, 60)

    def set_of(self, job):
        assert job.state is State.QUEUED, job.error
        opened = PictureSet(self.storage.path(job.spec.data.train.sha256))
        found = [(each, Image.open(io.BytesIO(opened.read(each)))) for each in opened.pictures]
        opened.close()
        return found

    def captions(self, job):
        return [picture.caption for picture, _ in self.set_of(job)]

    def told(self, job, kind):
        return self.jobs.events(job.id, kinds=(kind,))

    def reasons(self, job):
        """By the end of a picture's name: why it was left out."""
        notes = [event.data for event in self.told(job, "note") if "reason" in event.data]
        return {data["picture"].rpartition("/")[2]: data["reason"] for data in notes}

    def left_over(self):
        """Files of the preparation, and contents that nobody has."""
        return [path for path in [*self.folder.rglob("*"), *self.storage._folder.rglob("*")] if path.is_file()]


@pytest.fixture
def gallery(house, tmp_path):
    secrets = open_secrets(house.database, tmp_path / "keys")
    bases = BaseModels({"m": tmp_path / "m"}, ())
    hub = HubModels(tmp_path / "hub", None, LIMITS)
    sources = {kind: module.create(LIMITS, None) for kind, module in load_plugins("tunesmith.sources").items()}
    fetcher = Fetcher(house.database, sources, hub, bases, secrets, house.storage, PictureGatherer(None, 0))
    resolver = InputResolver(
        house.database,
        bases,
        hub,
        house.storage,
        RowCache(tmp_path / "rows", house.storage, 0),
        EncodedCache(tmp_path / "encoded", 1),
    )
    runner = house.runner
    runner.finds_nothing_wrong()
    collector = Collector(house.database, fetcher, house.storage)
    captioner = Captioner(runner, bases, None, tmp_path / "checks")
    pictures = Pictures(collector, captioner, house.storage, tmp_path / "pictures")
    admission = Admission(
        house.database, runner, fetcher, resolver, house.storage, tmp_path / "checks", "adjust", pictures=pictures
    )
    use = ContentUse(house.storage)

    def make_preparer():
        return Preparer(house.database, admission, use)

    web = WebServer()
    gallery = Gallery(
        database=house.database,
        jobs=Jobs(house.database, admission, use, tmp_path / "jobs", lambda: None, LOCAL),
        preparer=make_preparer(),
        make_preparer=make_preparer,
        pictures=pictures,
        web=web,
        storage=house.storage,
        folder=tmp_path / "pictures",
        secrets=secrets,
        runner=runner,
    )
    yield gallery
    gallery.preparer.stop()
    web.stop()


def picture(color="red", size=(8, 6), kind="PNG", **options):
    """A file of one colour."""
    content = io.BytesIO()
    image = color if isinstance(color, Image.Image) else Image.new("RGB", size, color)
    image.save(content, kind, **options)
    return content.getvalue()


def zipped(members, **options):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **options) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def png_header(width, height):
    """A small PNG that claims to be of this size."""
    size = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [size, b"IDAT" + zlib.compress(bytes(100_000)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def test_pictures_become_one_set_whose_digest_is_pinned_in_the_job(gallery):
    sources = gallery.serve(a_png=picture("red"), b_jpg=picture("blue", kind="JPEG"), c_webp=picture(kind="WEBP"))
    job = gallery.prepared(sources)
    found = gallery.set_of(job)
    assert [each.source for each, _ in found] == sources
    assert [(each.width, each.height, each.caption) for each, _ in found] == [(8, 6, "sks")] * 3
    assert [image.mode for _, image in found] == ["RGB"] * 3
    assert found[0][1].getpixel((0, 0)) == (255, 0, 0)
    assert list(gallery.folder.iterdir()) == []


def test_equal_pictures_are_equal_bytes_and_lie_in_the_storage_once(gallery):
    sources = gallery.serve(a_png=picture("red"), b_png=picture("blue"))
    one, other = gallery.prepared(sources), gallery.prepared(sources)
    assert one.spec.data.train.sha256 == other.spec.data.train.sha256
    assert len(gallery.left_over()) == 1


def test_each_stage_is_told_with_its_counts(gallery):
    job = gallery.prepared(gallery.serve(a_png=picture("red"), b_png=picture("blue"), c_png=b""))
    told = [(event.data["stage"], event.data["done"], event.data["total"]) for event in gallery.told(job, "pictures")]
    stages = ["downloading", "verifying", "transforming", "captioning", "writing", "completed"]
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == stages
    for expected in (("downloading", 3, 3), ("verifying", 3, 3), ("writing", 2, 2), ("completed", 2, 3)):
        assert expected in told
    assert "2 of 3 pictures are prepared" in gallery.told(job, "pictures")[-1].message


BAD = {
    "empty.png": (b"", "empty"),
    "text.jpg": (b"hello, I am a text", "it is text"),
    "page.png": (b"<!DOCTYPE html><p>log in", "a web page"),
    "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "film.gif": (picture(kind="GIF"), "a GIF"),
    "scan.tif": (picture(kind="TIFF"), "a TIFF"),
    "cut.png": (picture(size=(300, 300))[:-40], "damaged or cut off"),
    "cut.jpg": (picture(Image.effect_noise((300, 300), 50), kind="JPEG")[:2000], "damaged or cut off"),
    "cut.webp": (picture(Image.effect_noise((300, 300), 50), kind="WEBP")[:2000], "damaged or cut off"),
    "huge.png": (png_header(50_000, 50_000), "50,000 x 50,000 pixels"),
    "long.png": (png_header(100_000, 2), "65,535 a side"),
    "nothing.png": (png_header(0, 0), "its header cannot be read"),
    "headless.png": (b"\x89PNG\r\n\x1a\nxxxx", "its header cannot be read"),
    "moving.png": (picture(save_all=True, append_images=[Image.new("RGB", (8, 6), "blue")]), "animated (2 frames)"),
    "moving.webp": (
        picture(kind="WEBP", save_all=True, append_images=[Image.new("RGB", (8, 6), "blue")]), "animated (2 frames)",
    ),
    "noise.png": (bytes(range(256)) * 9, "no picture"),
}  # fmt: skip


def test_every_bad_picture_is_left_out_with_its_reason_and_the_good_ones_are_trained_on(gallery):
    addresses = [gallery.put(name, content) for name, (content, _) in BAD.items()]
    gallery.web.answers["/forbidden.png"] = lambda handler: reply(handler, 403)
    lost = [f"{gallery.web.url}/{name}" for name in ("lost.png", "forbidden.png")]
    job = gallery.prepared([*addresses, *lost, gallery.put("good.png", picture("red"))])
    assert len(gallery.set_of(job)) == 1
    reasons = gallery.reasons(job)
    for name, (_, word) in BAD.items():
        assert word in reasons[name]
    assert "Nothing lies at" in reasons["lost.png"]
    assert "asks for credentials" in reasons["forbidden.png"]
    final = gallery.told(job, "pictures")[-1].data
    assert (final["done"], final["left_out_count"]) == (1, len(BAD) + 2)
    assert {each["picture"] for each in final["left_out"]} == {*addresses, *lost}


def test_a_job_without_a_single_good_picture_fails_and_names_the_first_reasons(gallery):
    job = gallery.prepared([gallery.put(f"{number}.png", b"") for number in range(7)])
    assert (job.state, job.error.code, job.error.param) == (State.FAILED, "invalid_dataset", "data.images.sources")
    assert "/0.png: the file is empty" in job.error.message
    assert "the first 5 of 7" in job.error.message
    assert len(gallery.reasons(job)) == 7
    assert gallery.left_over() == []


def test_an_address_that_is_not_public_is_refused_and_signatures_are_never_told(gallery):
    private = "http://10.1.2.3/a.png?signature=canary"
    good = gallery.put("good.png", picture()) + "?signature=canary"
    job = gallery.prepared([private, good])
    assert "not public" in gallery.reasons(job)["a.png"]
    told = [event.message + str(event.data) for event in gallery.jobs.events(job.id)]
    assert "canary" not in " ".join(told)
    assert "canary" not in job.spec.model_dump_json()
    assert "canary" not in gallery.storage.path(job.spec.data.train.sha256).read_bytes().decode("latin-1")


def test_pictures_come_from_a_bucket_with_the_secret_of_the_job(gallery, tmp_path):
    (tmp_path / "buckets").mkdir()
    with S3Server(tmp_path / "buckets") as store:
        address = store.put("shop", "chairs/red chair.png", picture("red"))
        secret = gallery.secrets.create("local", name="b", purpose="s3", fields=store.credentials)
        beside = gallery.put("b.png", picture("blue"))
        job = gallery.prepared([address, beside], secret.id, captioning="filename")
        assert gallery.captions(job) == ["sks red chair", "sks b"]
        without = gallery.prepared([address])
    assert without.state is State.FAILED


def test_an_uploaded_file_is_a_picture_of_its_own_organisation_alone(gallery):
    def upload(org):
        writer = gallery.storage.writer()
        writer.write(picture("red"))
        writer.finish()
        files = Files(gallery.database, gallery.storage, ContentUse(gallery.storage), org)
        return f"file-{files.add(writer, filename='chair.png', purpose='user_data').id}"

    job = gallery.prepared([upload("local")], captioning="filename")
    assert gallery.captions(job) == ["sks chair"]
    with pytest.raises(FileNotFoundInStoreError) as caught:
        gallery.pictures.check("local", gallery.spec([upload("other")]))
    assert caught.value.param == "data.images.sources.0"


# --- archives --------------------------------------------------------------------------------------------------------


def test_an_archive_is_many_pictures_in_the_order_of_their_names(gallery):
    content = zipped({
        "b/2.png": picture("blue"), "a/1.png": picture("red"), "__MACOSX/a/._1.png": b"x", "notes.md": b"# Notes",
    })  # fmt: skip
    address = gallery.put("all.zip", content)
    job = gallery.prepared([address])
    assert [each.source for each, _ in gallery.set_of(job)] == [f"{address}: a/1.png", f"{address}: b/2.png"]
    assert gallery.reasons(job) == {"all.zip: notes.md": "it is text; JPEG, PNG and WebP are read"}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (zipped({"../../evil.png": picture()}), "leads out of it"),
        (zipped({"/etc/evil.png": picture()}), "leads out of it"),
        (zipped({"C:\\evil.png": picture()}), "leads out of it"),
        (zipped({"bomb.png": b"\0" * 50_000_000}, compression=zipfile.ZIP_DEFLATED), "100 times its size"),
        (zipped({}), "no files"),
        (zipped({"a.png": picture()})[:-30], "cannot be unpacked"),
        (zipped({"inner.zip": zipped({"a.png": picture()})}), "an archive within an archive"),
    ],
)
def test_a_hostile_archive_is_left_out_and_the_rest_is_trained_on(gallery, content, word):
    job = gallery.prepared([gallery.put("bad.zip", content), gallery.put("good.png", picture())])
    assert len(gallery.set_of(job)) == 1
    [reason] = gallery.reasons(job).values()
    assert word in reason


def test_a_picture_with_an_archive_behind_it_is_a_picture(gallery):
    job = gallery.prepared([gallery.put("both.png", picture("red") + zipped({"a.png": picture("blue")}))])
    assert [image.getpixel((0, 0)) for _, image in gallery.set_of(job)] == [(255, 0, 0)]


# --- captions --------------------------------------------------------------------------------------------------------


def test_texts_in_an_archive_are_captions_and_default_is_for_the_rest_of_its_folder(gallery):
    content = zipped({
        "a/1.png": picture("red"), "a/1.TXT": "a [trigger] chair", "a/2.png": picture("blue"),
        "a/default.txt": "furniture", "b/3.png": picture("green"), "b/3.txt": b"\xef\xbb\xbfgr\xc3\xbcn\n",
        "c/4.png": picture("gray"), "c/4.txt": b"\xff\xfe\xff",
    })  # fmt: skip
    job = gallery.prepared([gallery.put("all.zip", content)], captioning="existing")
    assert gallery.captions(job) == ["a sks chair", "sks furniture", "sks grün", "sks"]
    [reason] = gallery.reasons(job).values()
    assert "not UTF-8" in reason
    assert any("1 pictures have no text beside them" in event.message for event in gallery.told(job, "note"))


def test_a_text_beside_a_picture_on_the_web_is_its_caption(gallery):
    sources = gallery.serve(one_png=picture("red"), two_png=picture("blue"), three_png=picture("green"))
    gallery.put("one.txt", b"a red chair")
    named = gallery.put("two.txt", b"a blue chair")
    job = gallery.prepared([*sources, named], captioning="existing")
    assert gallery.captions(job) == ["sks a red chair", "sks a blue chair", "sks"]
    assert gallery.reasons(job) == {}


def test_one_text_can_be_every_caption(gallery):
    sources = gallery.serve(one_png=picture("red"), two_png=picture("blue"))
    job = gallery.prepared(sources, captioning="custom", caption_prompt="a photo of [name]")
    assert gallery.captions(job) == ["a photo of sks"] * 2


def test_captions_by_a_model_are_refused_where_there_is_none(gallery):
    with pytest.raises(UnsupportedError) as caught:
        gallery.pictures.check("local", gallery.spec(["https://example.org/a.png"], captioning="auto"))
    assert caught.value.param == "data.images.captioning"
    assert "captioning_model" in caught.value.hint


# --- transforms that choose, and likeness ----------------------------------------------------------------------------


def shape(shift=0):
    """A picture that is no other one's like."""
    image = Image.linear_gradient("L").rotate(shift * 90).convert("RGB")
    image.paste("red", (10 * shift, 10, 10 * shift + 40, 90))
    return image


def test_alike_pictures_are_told_and_stay(gallery):
    sources = gallery.serve(
        a_png=picture(shape()), b_png=picture(shape(), compress_level=1), c_jpg=picture(shape(), kind="JPEG"),
        d_png=picture(shape(2)),
    )  # fmt: skip
    job = gallery.prepared(sources)
    assert len(gallery.set_of(job)) == 4
    notes = {event.message.partition(":")[0]: event.data["alike"] for event in gallery.told(job, "note")}
    assert notes["Pictures that are the same, pixel by pixel"] == [[sources[0], sources[1]]]
    assert notes["Pictures that are nearly the same"] == [[sources[0], sources[2]]]


def test_dedupe_keeps_the_first_of_those_that_look_alike_where_it_stands_in_the_list(gallery):
    sources = gallery.serve(
        a_png=picture(shape()), b_jpg=picture(shape(), kind="JPEG"), c_png=picture(shape(2)), d_png=picture("red"),
        e_png=picture("blue"),
    )  # fmt: skip
    dedupe = {"type": "dedupe", "max_distance": 2}
    job = gallery.prepared(sources, transforms=(dedupe,))
    assert [each.source for each, _ in gallery.set_of(job)] == [sources[0], *sources[2:]]
    assert f"it looks like {sources[0]}" in gallery.reasons(job)["b.jpg"]
    crop = {"type": "crop_box", "left": 0, "top": 0, "width": 2, "height": 2}
    plain = {"type": "brightness", "factor": 0.0}
    job = gallery.prepared(sources, transforms=(crop, plain, dedupe))
    assert [each.source for each, _ in gallery.set_of(job)] == [sources[0]]


def test_a_picture_that_a_filter_left_out_keeps_no_other_out(gallery):
    small, large = shape().resize((64, 64)), shape()
    sources = gallery.serve(a_png=picture(small), b_png=picture(large))
    least = {"type": "min_size_filter", "width": 100, "height": 100}
    dedupe = {"type": "dedupe", "max_distance": 4}
    assert [each.source for each, _ in gallery.set_of(gallery.prepared(sources, transforms=(least, dedupe)))] == [
        sources[1]
    ]
    job = gallery.prepared(sources, transforms=(dedupe, least))
    assert job.state is State.FAILED
    assert "64 x 64 pixels, and min_size_filter asks for 100 x 100" in job.error.message


def test_a_transform_that_cannot_be_applied_leaves_the_picture_out(gallery):
    sources = gallery.serve(a_png=picture(size=(10, 10)), b_png=picture(size=(50, 50)), c_png=picture(size=(9000, 1)))
    box = {"type": "crop_box", "left": 5, "top": 0, "width": 10, "height": 1}
    pad = {"type": "pad_to_square", "color": "#ffffff"}
    assert [image.size for _, image in gallery.set_of(gallery.prepared(sources[:2], transforms=(box,)))] == [(10, 1)]
    job = gallery.prepared(sources[1:], transforms=(pad,))
    assert "pad_to_square would make 9,000 x 9,000 pixels" in gallery.reasons(job)["c.png"]


# --- requests that are refused at once -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "param"),
    [
        ({"sources": ()}, "data.images.sources"),
        ({"sources": ("https://a/b.png",) * 10_001}, "data.images.sources"),
        ({"sources": ("https://a/b.png", "ftp://a/b.png")}, "data.images.sources.1"),
        ({"sources": ("/etc/passwd",)}, "data.images.sources.0"),
        ({"sources": ("data:image/png;base64,AAAA",)}, "data.images.sources.0"),
        ({"transforms": ({"type": "melt"},)}, "data.images.transforms.0.type"),
        ({"transforms": ({},)}, "data.images.transforms.0.type"),
        ({"transforms": ({"type": []},)}, "data.images.transforms.0.type"),
        ({"transforms": ({"type": "max_side", "pixels": 0},)}, "data.images.transforms.0.pixels"),
        ({"transforms": ({"type": "max_side"},)}, "data.images.transforms.0.pixels"),
    ],
)
def test_what_cannot_be_prepared_is_refused_by_its_field(gallery, images, param):
    spec = gallery.spec(**{"sources": ("https://example.org/a.png",), **images})
    with pytest.raises(InvalidRequestError) as caught:
        gallery.pictures.check("local", spec)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("module", "name", "limit", "word"),
    [
        (verifying, "MAX_PICTURES", 1, "up to 1 are trained on"),
        (transforming, "MAX_SET_BYTES", 10, "GiB together"),
        (collecting, "MAX_BYTES", 10, "GiB in all"),
    ],
)
def test_too_much_fails_the_job_and_leaves_nothing(gallery, monkeypatch, module, name, limit, word):
    monkeypatch.setattr(module, name, limit)
    job = gallery.prepared(gallery.serve(a_png=picture("red"), b_png=picture("blue")))
    assert job.state is State.FAILED
    assert word in job.error.message
    assert gallery.left_over() == []


# --- ends ------------------------------------------------------------------------------------------------------------


def decoders():
    """The processes of this one that decode."""
    return [each for each in psutil.Process().children() if "tunesmith.data.imaging.process" in each.cmdline()]


def hold(gallery, name):
    """A file that comes when the gate is opened, after its head."""
    gate = threading.Event()
    content = picture(Image.effect_noise((200, 200), 50))

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("ETag", '"1"')
        handler.end_headers()
        for start in range(0, len(content), 50):
            handler.wfile.write(content[start : start + 50])
            handler.wfile.flush()
            gate.wait(0.05)

    gallery.web.answers[f"/{name}"] = answer
    return f"{gallery.web.url}/{name}", gate


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["downloading", "verifying", "transforming"])
def test_a_cancelled_job_ends_in_any_stage_and_leaves_nothing(gallery, stage):
    address, gate = hold(gallery, "slow.png")
    others = [gallery.put(f"{number}.png", picture(shape(number % 4))) for number in range(300)]
    blur = ({"type": "resize", "width": 1500, "height": 1500}, {"type": "blur", "radius": 50.0})
    sources = [address, *others] if stage == "downloading" else others
    job = gallery.begun(sources, transforms=blur)
    wait_for(lambda: any(event.data["stage"] == stage for event in gallery.told(job, "pictures")), 60)
    assert gallery.jobs.cancel(job.id).state is State.CANCELLED
    begun = time.monotonic()
    gallery.preparer.stop()
    gate.set()
    assert time.monotonic() - begun < 10
    assert gallery.told(job, "pictures")[-1].data["stage"] == stage
    assert gallery.left_over() == []
    assert decoders() == []


@pytest.mark.slow
def test_the_next_server_begins_anew(gallery):
    sources = [gallery.put(f"{number}.png", picture(shape(number % 4))) for number in range(100)]
    job = gallery.begun(sources)
    wait_for(lambda: any(event.data["stage"] == "verifying" for event in gallery.told(job, "pictures")), 60)
    gallery.preparer.stop()
    assert gallery.jobs.get(job.id).state is State.VALIDATING
    gallery.preparer = gallery.make_preparer()
    gallery.preparer.tick()
    assert len(gallery.set_of(gallery.ended(job))) == 100


def test_what_an_earlier_server_left_is_removed(gallery):
    (gallery.folder / "abc").mkdir()
    (gallery.folder / "abc" / "x.png").touch()
    Pictures(None, None, gallery.storage, gallery.folder)
    assert list(gallery.folder.iterdir()) == []


@pytest.mark.slow
def test_a_picture_over_which_the_decoding_process_dies_is_left_out_and_the_next_ones_are_decoded(gallery):
    sources = [gallery.put(f"{number:03}.png", picture(shape(number % 4))) for number in range(100)]
    job = gallery.begun(sources)
    [process] = wait_for(decoders, 60)
    wait_for(lambda: any(event.data["stage"] == "verifying" for event in gallery.told(job, "pictures")), 60)
    process.kill()
    job = gallery.ended(job)
    [reason] = gallery.reasons(job).values()
    assert reason == "the process that decoded it died (signal 9)"
    assert len(gallery.set_of(job)) == 99


def test_a_picture_that_takes_too_long_is_left_out_and_its_process_is_gone(gallery, monkeypatch):
    monkeypatch.setattr(decoder, "_SECONDS", -1.0)
    job = gallery.prepared(gallery.serve(a_png=picture("red")))
    assert (job.state, job.error.code) == (State.FAILED, "invalid_dataset")
    assert "is not done within" in job.error.message
    assert decoders() == []
