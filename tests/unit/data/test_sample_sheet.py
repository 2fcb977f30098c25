import io

from PIL import Image

from tunesmith.data.sample_sheet import sample_sheet


def sheet_of(prompts, files, **changes):
    with Image.open(io.BytesIO(sample_sheet(prompts, files, **changes))) as sheet:
        assert sheet.format == "PNG"
        return sheet.convert("RGB")


def picture(folder, colour, size=(8, 8)):
    path = folder / f"{colour}-{size[0]}x{size[1]}.png"
    Image.new("RGB", size, colour).save(path)
    return path


def test_prompts_are_rows_and_steps_are_columns_in_their_order(tmp_path):
    files = {
        (0, 250): picture(tmp_path, "green"),
        (0, 0): picture(tmp_path, "red"),
        (1, 0): picture(tmp_path, "blue"),
    }
    sheet = sheet_of(["a cat", "ein Hund 🐕"], files, cell=64)
    assert sheet.size == (8 + 2 * 72, 22 + 2 * 86)
    assert sheet.getpixel((40, 60)) == (255, 0, 0)
    assert sheet.getpixel((112, 60)) == (0, 128, 0)
    assert sheet.getpixel((40, 146)) == (0, 0, 255)
    assert sheet.getpixel((112, 146)) == (255, 255, 255)


def test_pictures_keep_their_shape(tmp_path):
    sheet = sheet_of(["wide"], {(0, 0): picture(tmp_path, "red", (100, 50))}, cell=64)
    assert sheet.getpixel((10, 40)) == (255, 0, 0)
    assert sheet.getpixel((10, 36 + 40)) == (255, 255, 255)


def test_without_pictures_the_sheet_names_its_prompts(tmp_path):
    assert sheet_of(["", "a\nb" * 500], {}).size[0] > 0
