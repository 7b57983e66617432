package peers;

import java.io.IOException;
import java.util.Arrays;

import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.src.reader.SimpleStreamFormat;
import org.apache.flink.connector.file.src.reader.StreamFormat;
import org.apache.flink.core.fs.FSDataInputStream;

/** Lines of a file as bytes. Flink's own format of lines decodes them to strings, which JSON does not need. */
public final class Lines extends SimpleStreamFormat<byte[]> {
  private static final int BUFFER_BYTES = 1 << 18;

  @Override
  public Reader<byte[]> createReader(Configuration configuration, FSDataInputStream file) {
    return new LineReader(file);
  }

  @Override
  public TypeInformation<byte[]> getProducedType() {
    return PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
  }

  private static final class LineReader implements StreamFormat.Reader<byte[]> {
    private final FSDataInputStream file;
    private byte[] buffer = new byte[BUFFER_BYTES];
    private int start, end;

    LineReader(FSDataInputStream file) {
      this.file = file;
    }

    @Override
    public byte[] read() throws IOException {
      int place = start;
      while (true) {
        for (; place < end; place++) {
          if (buffer[place] == '\n') {
            byte[] line = Arrays.copyOfRange(buffer, start, place);
            start = place + 1;
            return line;
          }
        }
        int held = end - start;
        if (!fill()) {
          byte[] rest = held == 0 ? null : Arrays.copyOfRange(buffer, start, end);
          start = end;
          return rest;
        }
        place = start + held;
      }
    }

    /** Reads on behind what is held, which moves to the front; whether there was more. */
    private boolean fill() throws IOException {
      int held = end - start;
      byte[] into = held == buffer.length ? new byte[2 * buffer.length] : buffer;
      System.arraycopy(buffer, start, into, 0, held);
      buffer = into;
      int more = file.read(buffer, held, buffer.length - held);
      start = 0;
      end = held + Math.max(more, 0);
      return more > 0;
    }

    @Override
    public void close() throws IOException {
      file.close();
    }
  }
}
