// SPDX-License-Identifier: GPL-2.0
/*
 * Prints "callee caller" for each copy of a function that the compiler put inside
 * another one: no call path ever shows that copy. Reads the DWARF of one ELF file.
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* A DIE's name; those of copies and of out-of-line bodies are at their abstract origin. */
static const char *name_of(Dwarf_Die *die)
{
	Dwarf_Attribute attribute;

	return dwarf_formstring(dwarf_attr_integrate(die, DW_AT_name, &attribute));
}

static void walk(Dwarf_Die *die, const char *caller)
{
	Dwarf_Die child;

	if (dwarf_child(die, &child))
		return;
	do {
		const char *name, *inside = caller;

		switch (dwarf_tag(&child)) {
		case DW_TAG_subprogram:
			/* Without code it is a declaration, or the origin of the copies. */
			if (!dwarf_hasattr(&child, DW_AT_low_pc) && !dwarf_hasattr(&child, DW_AT_ranges))
				continue;
			inside = name_of(&child);
			break;
		case DW_TAG_inlined_subroutine:
			name = name_of(&child);
			if (name && caller)
				printf("%s %s\n", name, caller);
			break;
		case DW_TAG_lexical_block:
			break;
		default:
			continue;
		}
		walk(&child, inside);
	} while (!dwarf_siblingof(&child, &child));
}

int main(int count, char **words)
{
	int file = count == 2 ? open(words[1], O_RDONLY) : -1;
	Dwarf *dwarf = file >= 0 ? dwarf_begin(file, DWARF_C_READ) : NULL;
	Dwarf_Off at = 0, next;
	size_t header;

	if (!dwarf) {
		fprintf(stderr, "usage: inlined ELF-FILE-WITH-DWARF\n");
		return 2;
	}
	while (!dwarf_nextcu(dwarf, at, &next, &header, NULL, NULL, NULL)) {
		Dwarf_Die unit;

		if (dwarf_offdie(dwarf, at + header, &unit))
			walk(&unit, NULL);
		at = next;
	}
	return 0;
}
