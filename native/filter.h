/* libseccomp, as far as compiling a filter takes it: a module of its own, loaded only when one must be compiled.
 *
 * Every function that can fail returns minus the error number. No policy, no loops over a profile.
 */
#ifndef PYRUNTIME_FILTER_H
#define PYRUNTIME_FILTER_H

void *filter_new(unsigned int default_action);
void filter_free(void *filter);
int filter_optimize(void *filter, unsigned int level);
unsigned int filter_native_architecture(void);
unsigned int filter_architecture(const char *name);
int filter_add_architecture(void *filter, unsigned int architecture);
int filter_system_call(unsigned int architecture, const char *name);
int filter_system_call_name(unsigned int architecture, int system_call, char *name, unsigned int size);
int filter_add_rule(void *filter, unsigned int action, int system_call, unsigned int count, const unsigned int *indexes,
                    const int *operators, const unsigned long long *values, const unsigned long long *others);
int filter_export(void *filter, int fd);
const char *filter_library(void);

#endif
