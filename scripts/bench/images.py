"""The torchvision side of images.sh.
images.py make FOLDER N: N photographs' likes of 500x375 pixels as JPEG files in ten classes
images.py run FOLDER THREADS SECONDS SIZE: images a second of ImageFolder + DataLoader, read to normalised tensors
images.py versions"""
import os
import sys
import time


def make(folder, count):
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:375, 0:500].astype(np.float32)
    for i in range(count):
        planes = []
        for _ in range(3):  # smooth shapes, edges and grain: about 50 KiB a file, as in ImageNet
            a, b, c, d = rng.uniform(10, 90, 4)
            plane = 128 + 60 * np.sin(x / a + rng.uniform(0, 6)) * np.cos(y / b) + 40 * np.sign(np.sin(x / c + y / d))
            planes.append(plane + rng.normal(0, 9, x.shape))
        path = os.path.join(folder, f"class{i % 10}", f"{i:04d}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def run(folder, threads, seconds, size):
    import torch
    from torchvision import datasets, transforms
    torch.set_num_threads(1)
    data = datasets.ImageFolder(folder, transforms.Compose([
        transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]))
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True, num_workers=0 if threads == 1 else threads,
                                         persistent_workers=threads > 1, drop_last=True)
    for _ in loader:  # the workers start
        pass
    made, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for images, _ in loader:
            made += len(images)
    print(f"{made / (time.perf_counter() - begin):.1f}")


def versions():
    import PIL
    import torch
    import torchvision
    from PIL import features
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
          f"Pillow {PIL.__version__}, its libjpeg-turbo {features.version('libjpeg_turbo')}")


if sys.argv[1] == "make":
    make(sys.argv[2], int(sys.argv[3]))
elif sys.argv[1] == "run":
    run(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
else:
    versions()
