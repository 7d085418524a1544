// What the stand-in for the driver writes down of a launch.
#pragma once

struct Launch {
  char kernel[48];
  char code[16];  // sm_90, or compute_80 for PTX
  int context, device;
  bool captured, early;
};
