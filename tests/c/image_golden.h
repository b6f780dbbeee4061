/* Written by tests/ref/images.py with Pillow 10.4.0, libjpeg-turbo 3.0.3, NumPy 1.26.4. */
static const struct {
  const char *file; /* in tests/fuzz/corpus */
  int64_t w, h;
  uint32_t rgb, grey; /* crc32 of the pixels */
} decoded[] = {
    {"jpeg/420-progressive.jpg", 37, 29, 0xf9229136, 0x50110bf7},
    {"jpeg/420.jpg", 37, 29, 0x2ee42a6c, 0xae70e4cf},
    {"jpeg/422.jpg", 37, 29, 0xfd51293f, 0xae70e4cf},
    {"jpeg/444.jpg", 37, 29, 0x6a5107e7, 0xae70e4cf},
    {"jpeg/cmyk-flat.jpg", 8, 8, 0xafb4b800, 0xee552f98},
    {"jpeg/cmyk.jpg", 37, 29, 0x71b0b7e2, 0x98096398},
    {"png/deep-grey-alpha.png", 11, 9, 0x37747318, 0xfd86ff02},
    {"png/deep-grey.png", 11, 9, 0xfc3c2a31, 0x23814603},
    {"png/deep-rgb.png", 11, 9, 0x891d5056, 0x69aa1289},
    {"png/deep-rgba.png", 11, 9, 0x891d5056, 0x69aa1289},
    {"png/grey-2.png", 13, 9, 0x934ea842, 0x24c7f812},
    {"jpeg/grey.jpg", 37, 29, 0xbf25d20a, 0xae70e4cf},
    {"png/interlaced-4.png", 13, 9, 0xa9094a91, 0x65cfc718},
    {"png/interlaced.png", 13, 9, 0x0d95595b, 0xea20839e},
    {"png/one-bit.png", 19, 9, 0xd72c8c24, 0x3f451457},
    {"png/palette.png", 19, 9, 0x5542f0e1, 0x6b6525ab},
    {"jpeg/restart.jpg", 37, 29, 0xe2ab17be, 0x1ddbb54a},
    {"png/rgb.png", 13, 9, 0x0d95595b, 0xea20839e},
    {"png/rgba.png", 13, 9, 0x0d95595b, 0xea20839e},
    {"jpeg/turned.jpg", 12, 7, 0xe1c67157, 0xecc7ac41},
};

/* byte i of the image is (uint32)(i * 2654435761) >> 24 */
static const struct {
  int64_t c, w, h, to_w, to_h;
  ms_filter filter;
  double box[4];
  uint32_t crc;
} resized[] = {
    {3, 500, 375, 224, 224, MS_FILTER_BILINEAR, {0}, 0xc6649583},
    {3, 500, 375, 224, 224, MS_FILTER_BICUBIC, {0}, 0xcaacef3c},
    {3, 91, 60, 224, 224, MS_FILTER_BILINEAR, {0}, 0x0ab62ade},
    {3, 91, 60, 224, 224, MS_FILTER_BICUBIC, {0}, 0xd871db0b},
    {3, 50, 37, 50, 20, MS_FILTER_BILINEAR, {0}, 0x8e2dff5d},
    {3, 50, 37, 50, 20, MS_FILTER_BICUBIC, {0}, 0x7d49e6b3},
    {3, 50, 37, 20, 37, MS_FILTER_BILINEAR, {0}, 0x34b2b314},
    {3, 50, 37, 20, 37, MS_FILTER_BICUBIC, {0}, 0xa9a12507},
    {3, 1, 1, 5, 4, MS_FILTER_BILINEAR, {0}, 0xf6808714},
    {3, 1, 1, 5, 4, MS_FILTER_BICUBIC, {0}, 0xf6808714},
    {3, 40, 30, 1, 1, MS_FILTER_BILINEAR, {0}, 0xc84fd9f9},
    {3, 40, 30, 1, 1, MS_FILTER_BICUBIC, {0}, 0x5b6b248b},
    {3, 29, 169, 114, 36, MS_FILTER_BILINEAR, {0}, 0x8ff91671},
    {3, 29, 169, 114, 36, MS_FILTER_BICUBIC, {0}, 0xa4934ed2},
    {3, 60, 50, 24, 24, MS_FILTER_BILINEAR, {3.5, 2.25, 44.75, 41}, 0xbbcc8395},
    {3, 60, 50, 24, 24, MS_FILTER_BICUBIC, {3.5, 2.25, 44.75, 41}, 0x4b425ea0},
    {1, 128, 128, 48, 48, MS_FILTER_BILINEAR, {0}, 0x95b306fb},
    {1, 128, 128, 48, 48, MS_FILTER_BICUBIC, {0}, 0x68963c07},
    {1, 17, 33, 40, 20, MS_FILTER_BILINEAR, {0}, 0x4306dd08},
    {1, 17, 33, 40, 20, MS_FILTER_BICUBIC, {0}, 0xd3f6e4fa},
    {1, 7, 5, 48, 48, MS_FILTER_BILINEAR, {0}, 0xa2f4b210},
    {1, 7, 5, 48, 48, MS_FILTER_BICUBIC, {0}, 0x2fac2bc5},
    {1, 70, 50, 33, 31, MS_FILTER_BILINEAR, {0.5, 0.25, 61.5, 49}, 0x7b7c2422},
    {1, 70, 50, 33, 31, MS_FILTER_BICUBIC, {0.5, 0.25, 61.5, 49}, 0x0d706e63},
    {2, 128, 128, 48, 48, MS_FILTER_BILINEAR, {0}, 0x12551094},
    {2, 128, 128, 48, 48, MS_FILTER_BICUBIC, {0}, 0x57de42a8},
    {2, 34, 34, 48, 48, MS_FILTER_BILINEAR, {0}, 0xc1d0f900},
    {2, 34, 34, 48, 48, MS_FILTER_BICUBIC, {0}, 0x4cd46a70},
    {2, 34, 34, 34, 34, MS_FILTER_BILINEAR, {0}, 0x4a75ee7c},
    {2, 34, 34, 34, 34, MS_FILTER_BICUBIC, {0}, 0x4a75ee7c},
    {4, 61, 47, 30, 55, MS_FILTER_BILINEAR, {0}, 0xd213f0da},
    {4, 61, 47, 30, 55, MS_FILTER_BICUBIC, {0}, 0x4e0e6f7d},
};
