// In the place of CuPy's header, which takes in all of Thrust: no kernel here has complex numbers.
#pragma once
template <class T>
struct complex;
