# Fails if the stripped shared library has a megabyte or more, or needs a library that it should not.
#   cmake -DLIBRARY=<file> -DSTRIP=<program> -DREADELF=<program> -DOUTPUT=<file> -P CheckSize.cmake
execute_process(COMMAND ${STRIP} -o ${OUTPUT} ${LIBRARY} COMMAND_ERROR_IS_FATAL ANY)
file(SIZE ${OUTPUT} size)
message("stripped size: ${size} bytes")
if(size GREATER_EQUAL 1000000)
  message(SEND_ERROR "expects less than 1000000 bytes")
endif()
execute_process(COMMAND ${READELF} -d ${OUTPUT} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
if(dynamic MATCHES "NEEDED[^\n]*(LLVM|MLIR)")
  message(SEND_ERROR "needs LLVM: ${dynamic}")
endif()
