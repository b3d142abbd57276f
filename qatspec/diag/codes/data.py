"""QS950, QS951: pictures and what is annotated on them."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS950",
        "a picture has another size than its annotations state",
        """
The `width` and `height` in the annotation file, or the size of a label map, are those of another
picture: it was scaled, cropped or exchanged after it was annotated. Boxes and labels would lie in
the wrong places. The picture is treated as one that cannot be read (`qatspec explain QS911`): it
is left out with a warning, or ends the run where the data role says `broken: error`.

A picture with a rotation tag (EXIF orientation) fits if either its upright or its stored size is
the annotated one; where both are, it is read upright. Entries without a width and a height are
not checked.

**Fix.** Restore the picture that was annotated, or correct the annotations: scale the boxes and
write the picture's own size into `width` and `height`.
""",
    ),
    Code(
        "QS951",
        "a rotation tag is ignored",
        """
A camera stored its pixels turned and wrote into the file how to show them upright (EXIF
orientation, tag 274). Pictures are read upright, as viewers show them. The annotations of this set
state the size of the stored pixels, though: they were made by a tool that ignores the tag, so that
the tag is ignored here too, and boxes lie on their objects. The model then sees turned pictures,
while `qatspec infer` reads new pictures upright.

**Fix.** Nothing has to be done for training. To train on upright pictures, turn the pixels and the
annotations together, and remove the tag:

    exiftool -Orientation= -overwrite_original FILE
""",
    ),
)
