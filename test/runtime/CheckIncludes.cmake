# Fails if the runtime, its public header or the Python module include anything of LLVM or MLIR.
#   cmake -DSOURCE=<root> -P CheckIncludes.cmake
file(GLOB_RECURSE files ${SOURCE}/runtime/*.h ${SOURCE}/runtime/*.cpp ${SOURCE}/runtime/*.c ${SOURCE}/python/src/*.h
  ${SOURCE}/python/src/*.cpp)
list(APPEND files ${SOURCE}/include/setun/setun.h ${SOURCE}/include/setun/EntryABI.h ${SOURCE}/include/setun/Package.h)
foreach(file IN LISTS files)
  file(STRINGS ${file} lines REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"](llvm|mlir|clang|lld)(-c)?/")
  if(lines)
    message(SEND_ERROR "${file}: ${lines}")
  endif()
endforeach()
list(LENGTH files count)
message("${count} files looked at")
