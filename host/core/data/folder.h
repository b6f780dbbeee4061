/* Files of a data set that lie in one folder for each class: root/<class>/.../name.ext, the union of several roots.
** Classes and files in the order of torchvision's ImageFolder: by folder and then by name, bytes compared. On the
** main thread. */
#ifndef MS_FOLDER_H
#define MS_FOLDER_H

#include "input.h"

typedef struct ms_folder_options {
  const char *const *extensions; /* {".jpg", ..., NULL}, in lower case; files may have them in any */
  ms_policy policy;              /* strict: a link that leaves its root is an error; else it is left out and counted */
  ms_repairs *repairs;           /* NULL: not wanted */
} ms_folder_options;

typedef struct ms_folder_file {
  size_t path; /* in names: relative to its root, "class/a.jpg" */
  int32_t root, label;
} ms_folder_file;

typedef struct ms_folder_class {
  size_t name; /* in names */
  int64_t files;
} ms_folder_class;

typedef struct ms_folder { /* {0} is empty */
  int64_t n, classes;
  ms_folder_file *file;      /* [n], ordered by label, root, path */
  ms_folder_class *class_of; /* [classes], the label is the place */
  ms_buffer names, files_memory, classes_memory;
} ms_folder;

static inline const char *ms_folder_name(const ms_folder *f, size_t at) {
  return (const char *)f->names.p + at;
}

/* A class without files is an error; files beside the classes are ignored. After a failure *out is empty. */
ms_status ms_folder_list(ms_folder *out, const char *op, const char *const *roots, int nroots,
                         const ms_folder_options *opt, ms_error *err);
void ms_folder_free(ms_folder *f);

/* Class i, 0 to 99, of the list that is named "CMC" or "Kaggle"; NULL for any other. */
const char *ms_imagenet100_class(const char *list, int i);

/* Which of the two subsets called ImageNet-100 the classes are: "CMC" (also TRT's), "Kaggle", "Kaggle (n04347754 for
** n01847000)". Anything else is an error that says what is there. */
ms_status ms_imagenet100_which(const char **name, const ms_folder *f, const char *op, ms_error *err);

#endif
