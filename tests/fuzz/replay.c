/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over files, for compilers without libFuzzer and for the corpus as a test. Usage: target FILE|DIRECTORY...; a directory without
 * files is a mistake. */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

static int run_file(const char *path)
{
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(path, "rb");
    size_t n;

    if (file == NULL) {
        perror(path);
        return 1;
    }
    n = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, n);
    return 0;
}

static int run_directory(const char *path)
{
    DIR *directory = opendir(path);
    unsigned count = 0;
    int r = 0;

    if (directory == NULL) {
        perror(path);
        return 1;
    }
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char file[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        r |= run_file(file);
        count++;
    }
    closedir(directory);
    if (count == 0)
        fprintf(stderr, "%s: no files\n", path);
    return r != 0 || count == 0;
}

int main(int argc, char **argv)
{
    int r = argc < 2;

    for (int i = 1; i < argc; i++) {
        struct stat status;

        r |= stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode) ? run_directory(argv[i]) : run_file(argv[i]);
    }
    return r;
}
