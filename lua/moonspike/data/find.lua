-- Where data sets come from: official addresses and checksums, and where their files are looked for.

local core = require "moonspike.core"
local o = require "moonspike.options"

local find = {}

-- For each set: folder names below $MOONSPIKE_DATA, what the folder must look like, the files to get { name, bytes, md5 or sha256, url },
-- and how where no program can get them. scripts/get-data.sh reads this table.
find.sets = {
  FashionMNIST = {
    folders = { "", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw" }, debian = "/usr/share/datasets/fashion-mnist",
    layout = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, plain or as .gz",
    package = "dataset-fashion-mnist",
    how = "On Debian and Ubuntu: apt-get install dataset-fashion-mnist",
  },
  CIFAR10 = {
    folders = { "", "cifar-10-batches-bin", "cifar10", "CIFAR10" },
    layout = "cifar-10-binary.tar.gz, or cifar-10-batches-bin/ with data_batch_1.bin to data_batch_5.bin and test_batch.bin",
    files = { { "cifar-10-binary.tar.gz", bytes = 170052171, md5 = "c32a1d4ab5d03f1284b67883e8d87530",
      sha256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
      url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz" } },
  },
  CIFAR100 = {
    folders = { "", "cifar-100-binary", "cifar100", "CIFAR100" },
    layout = "cifar-100-binary.tar.gz, or cifar-100-binary/ with train.bin and test.bin",
    files = { { "cifar-100-binary.tar.gz", bytes = 168513733, md5 = "03b5dce01913d631647c71ecec9e9cb8",
      url = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz" } },
  },
  ImageNet100 = {
    folders = { "", "imagenet100", "ImageNet100", "imagenet-100" },
    layout = "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG (or train.X1 to train.X4 and val.X), 100 classes",
    how = "ImageNet needs a registration: https://image-net.org/download. Of ILSVRC-2012 take the 100 classes of the list " ..
      "data.imagenet100_classes \"CMC\", or take the set ambityga/imagenet100 of Kaggle, whose classes are others (\"Kaggle\")",
  },
  CIFAR10DVS = {
    folders = { "", "CIFAR10DVS", "cifar10-dvs", "CIFAR10DVS/extract" },
    layout = "<class>/cifar10_<class>_<0..999>.aedat for the ten classes airplane to truck, 10,000 recordings",
    unpack = true,
    files = {
      { "airplane.zip", bytes = 747054427, md5 = "0afd5c4bf9ae06af762a77b180354fdd", url = "https://ndownloader.figshare.com/files/7712788" },
      { "automobile.zip", bytes = 970159102, md5 = "8438dfeba3bc970c94962d995b1b9bdd", url = "https://ndownloader.figshare.com/files/7712791" },
      { "bird.zip", bytes = 760766288, md5 = "a9c207c91c55b9dc2002dc21c684d785", url = "https://ndownloader.figshare.com/files/7712794" },
      { "cat.zip", bytes = 843271197, md5 = "52c63c677c2b15fa5146a8daf4d56687", url = "https://ndownloader.figshare.com/files/7712812" },
      { "deer.zip", bytes = 778283422, md5 = "b6bf21f6c04d21ba4e23fc3e36c8a4a3", url = "https://ndownloader.figshare.com/files/7712815" },
      { "dog.zip", bytes = 844609875, md5 = "f379ebdf6703d16e0a690782e62639c3", url = "https://ndownloader.figshare.com/files/7712818" },
      { "frog.zip", bytes = 818824848, md5 = "cad6ed91214b1c7388a5f6ee56d08803", url = "https://ndownloader.figshare.com/files/7712842" },
      { "horse.zip", bytes = 929265395, md5 = "e7cbbf77bec584ffbf913f00e682782a", url = "https://ndownloader.figshare.com/files/7712851" },
      { "ship.zip", bytes = 742404857, md5 = "41c7bd7d6b251be82557c6cce9a7d5c9", url = "https://ndownloader.figshare.com/files/7712836" },
      { "truck.zip", bytes = 950111954, md5 = "89f3922fd147d9aeff89e76a2b0b70a7", url = "https://ndownloader.figshare.com/files/7712839" },
    },
  },
  NCaltech101 = {
    folders = { "", "NCaltech101", "n-caltech101", "Caltech101", "NCaltech101/Caltech101" },
    layout = "<class>/image_<0001...>.bin for 101 classes (BACKGROUND_Google to yin_yang), 8,709 recordings",
    unpack = true,
    files = { { "Caltech101.zip", md5 = "66201824eabb0239c7ab992480b50ba3",
      url = "https://data.mendeley.com/public-files/datasets/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded" } },
    how = "Home: https://www.garrickorchard.com/datasets/n-caltech101 (CC BY 4.0)",
  },
  NMNIST = {
    folders = { "", "NMNIST", "N-MNIST", "nmnist" },
    layout = "Train/<digit>/<number>.bin and Test/<digit>/<number>.bin, 60,000 and 10,000 recordings",
    unpack = true,
    files = {
      { "Train.zip", md5 = "20959b8e626244a1b502305a9e6e2031",
        url = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded" },
      { "Test.zip", md5 = "69ca8762b2fe404d9b9bad1103e97832",
        url = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded" },
    },
  },
  DVSGesture = {
    folders = { "", "DVSGesture", "DvsGesture", "DVS128Gesture", "DVSGesture/DvsGesture" },
    layout = "user<NN>_<light>.aedat with user<NN>_<light>_labels.csv, trials_to_train.txt and trials_to_test.txt",
    how = "By hand, after agreeing to IBM's terms: https://ibm.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8; " ..
      "DvsGesture.tar.gz, md5 8a5c71fb11e24e5ca5b11866ca6c00a1, unpacked there",
  },
  SHD = {
    folders = { "", "SHD", "shd" },
    layout = "shd_train.h5 and shd_test.h5",
    unpack = true,
    files = {
      { "shd_train.h5.zip", md5 = "f3252aeb598ac776c1b526422d90eecb", url = "https://zenkelab.org/datasets/shd_train.h5.zip" },
      { "shd_test.h5.zip", md5 = "1503a5064faa34311c398fb0a1ed0a6f", url = "https://zenkelab.org/datasets/shd_test.h5.zip" },
    },
  },
}

-- Folders that may hold the set: root alone where it is given.
function find.folders(name, root)
  local set = find.sets[name]
  if root then
    local list = { root }
    for _, sub in ipairs(set.folders) do
      if sub ~= "" then list[#list + 1] = root .. "/" .. sub end
    end
    return list
  end
  local list, home = {}, os.getenv "MOONSPIKE_DATA"
  if home and home ~= "" then
    for _, sub in ipairs(set.folders) do list[#list + 1] = sub == "" and home or home .. "/" .. sub end
  end
  if set.debian then list[#list + 1] = set.debian end
  return list
end

-- Raises: where the set was looked for, what the folder must hold, where it comes from.
function find.missing(name, list, what)
  local set, lines = find.sets[name], {}
  lines[1] = ("%s: %s not found in"):format(name, what or "the data set is")
  for _, folder in ipairs(list) do lines[#lines + 1] = "  " .. folder end
  if #list == 0 then lines[#lines + 1] = "  (no folder: neither root nor MOONSPIKE_DATA is given)" end
  lines[#lines + 1] = "Expected there: " .. set.layout
  for _, file in ipairs(set.files or {}) do
    local check = file.md5 and "md5 " .. file.md5 or "sha256 " .. file.sha256
    lines[#lines + 1] = ("  %s%s, %s, %s"):format(file[1], file.bytes and (", %d bytes"):format(file.bytes) or "", check, file.url)
  end
  if set.how then lines[#lines + 1] = set.how end
  if set.files or set.package then lines[#lines + 1] = ("scripts/get-data.sh %s gets it."):format(name) end
  lines[#lines + 1] = "Name the folder with root = \"...\" or the variable MOONSPIKE_DATA."
  o.fail("%s", table.concat(lines, "\n"))
end

-- The first folder of the list in which one of the names exists, the path found and the name.
function find.first(list, names)
  for _, folder in ipairs(list) do
    for _, name in ipairs(names) do
      local path = name == "" and folder or folder .. "/" .. name
      if core.system.exists(path) then return folder, path, name end
    end
  end
end

-- The folder of classes for training or testing, and its name; root alone where it has neither part.
function find.part(where, root, train, test, wanted)
  local names, others = wanted and train or test, wanted and test or train
  local _, path, name = find.first({ root }, names)
  local _, other = find.first({ root }, others)
  if not path and other then o.fail("%s: root: expected %s/%s, since there is %s", where, root, table.concat(names, " or "), other) end
  return path or root, name
end

-- Adds to a set's notes what was repaired before its loader runs.
function find.note(notes, when, repairs)
  for _, what in ipairs(o.keys(repairs)) do notes[#notes + 1] = ("repairs while %s: %s %d"):format(when, what, repairs[what]) end
end

-- Files root/<class>/... below the roots, as core.data.list_folder has them; folder, and a note of what was left out.
function find.listed(where, roots, extensions, policy, imagenet100)
  local list, why = core.data.list_folder { roots = roots, extensions = extensions, policy = policy == "strict" and "strict" or "lenient",
    imagenet100 = imagenet100 }
  if not list then o.fail("%s: %s", where, why) end
  list.folder, list.notes = roots[1], {}
  find.note(list.notes, "it was listed", list.repairs)
  return list
end

return find
