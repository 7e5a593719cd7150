/* Which of the C sources a module was built from. native/version.py has the number that the Python code goes with, and
   takes no module of another one. Both are raised with every change of a C file, which a test demands. */

#ifndef DYNCDC_VERSION_H
#define DYNCDC_VERSION_H

#define DYNCDC_VERSION 2

#endif
