"""QS950, QS951, QS958, QS959: pictures and what is annotated on them."""

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
    Code(
        "QS958",
        "a label file has a fault",
        """
A file of labels (a YOLO text, a VOC XML, a mask, a CSV table, or the file of class names) holds
something that is not a label: a word in place of a number, a class that has no name, a coordinate
outside of the picture, a line that lacks a column. The message has the file, the line and, where it
is one number, the column. Eight faults are shown at a time.

A fault is an error and never left out in silence: a class number that is too large, for one, tells
of a wrong file of class names, which would move the labels of every picture. Boxes without a size
are left out with a warning (`qatspec explain QS913`).

**Fix.** Correct the line, or write the file anew with the tool that made it. What each format
holds:

    YOLO   labels/train/a.txt   0 0.5 0.5 0.25 0.1      class, centre and size from 0 to 1
    VOC    Annotations/a.xml    <object> with <name> and <bndbox>, in pixels from 1
    masks  masks/train/a.png    the number of each pixel's class, or its colour
    CSV    labels.csv           file,label
""",
    ),
    Code(
        "QS959",
        "pictures have no label file",
        """
Some pictures of the set have no label file of their name. They are taken as pictures without an
object, which is right where nothing is to be found in them, and wrong where the labels were
forgotten or have other names: the model is then taught to overlook objects.

**Fix.** Add the missing files; write an empty label file for a picture in which there is nothing to
find.
""",
    ),
)
