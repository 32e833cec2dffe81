// Repacks weights from the blocks of their file into panels (see layout.h).
#pragma once

#include "core/layout.h"

namespace overclock {

// Bytes of one row of `columns` values as a file stores it.
size_t file_row_bytes(Format format, int columns);

// True if `columns` values fill whole blocks of the format.
bool fills_blocks(Format format, int columns);

// Packs panel `index`. `source` is the whole matrix in `source_format`; `to.format` is the same
// format, or I8 for a float source, which is then quantised row by row (max|w| / 127, ties to
// even).
void pack_panel(const Weight& to, Format source_format, const uint8_t* source, int index,
                uint8_t* panel);

// The values of one row of a packed matrix, f32[columns].
void unpack_row(const Weight& weight, int row, float* out);

}  // namespace overclock
