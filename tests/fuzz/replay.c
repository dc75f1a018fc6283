/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over files, for compilers without libFuzzer and for the corpus as a test. Usage: target FILE... */
#include "fuzz.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        static uint8_t bytes[1 << 20];
        size_t n;

        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        n = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        LLVMFuzzerTestOneInput(bytes, n);
    }
    return argc < 2;
}
