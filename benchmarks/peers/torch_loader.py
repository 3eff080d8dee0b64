"""PyTorch's DataLoader with worker processes, Pillow, and onnxruntime."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from common import finish, give_up, list_files, parse_arguments

try:
    import onnxruntime
    import torch
    from PIL import Image
except ImportError as error:
    give_up(error)


class Pictures(torch.utils.data.Dataset):
    """Gray pictures at the model's size."""

    def __init__(self, files: list[str], height: int, width: int) -> None:
        self.files, self.size = files, (width, height)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        with Image.open(self.files[index]) as image:
            return np.asarray(image.convert("L").resize(self.size, Image.Resampling.BOX))[..., None]


def main() -> None:
    arguments = parse_arguments(__doc__)
    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    height, width = session.get_inputs()[0].shape[1:3]
    start = perf_counter()
    files, labels = list_files(arguments.folder), []
    loader = torch.utils.data.DataLoader(
        Pictures(files, height, width), batch_size=arguments.batch_size, num_workers=arguments.workers
    )
    for batch in loader:
        labels.extend(session.run(None, {"image": batch.numpy()})[0].argmax(axis=1))
    finish(arguments, files, labels, perf_counter() - start)


if __name__ == "__main__":
    main()
