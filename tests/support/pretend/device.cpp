// A pretend CUDA device: what CuPy asks of the driver and the runtime, answered from host memory.
//
// Work is done at once, by functions that a C++ compiler made of the kernels (kernels.h); while a
// stream is captured it is written down, with a copy of its arguments, and done when the graph is
// launched. What CUDA refuses in a capture is refused. Device memory is NaN until it is written.
// The declarations are those of the CUDA headers, so a wrong type does not compile.
#include "driver_answers.h"
#include "products.h"
#include "runtime_answers.h"

// For the tests.
ANSWER long pretend_count(int which) { return counts[which]; }
ANSWER size_t pretend_used() { return used; }
