package peers;

import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;

import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/** Values as lines of a file for each worker, with nothing that a checkpoint would want: it costs least. */
public final class LineSink implements Sink<Message> {
  private static final int BUFFER_BYTES = 1 << 16;

  private final String path;

  public LineSink(String path) {
    this.path = path;
  }

  @Override
  public SinkWriter<Message> createWriter(WriterInitContext context) throws IOException {
    String part = path + "." + context.getTaskInfo().getIndexOfThisSubtask();
    OutputStream file = new BufferedOutputStream(new FileOutputStream(part), BUFFER_BYTES);
    return new SinkWriter<>() {
      @Override
      public void write(Message message, Context of) throws IOException {
        file.write(message.value);
        file.write('\n');
      }

      @Override
      public void flush(boolean atEnd) throws IOException {
        file.flush();
      }

      @Override
      public void close() throws IOException {
        file.close();
      }
    };
  }
}
